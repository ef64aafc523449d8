"""Connectionist temporal classification: labels of a sequence, without saying where they lie.

A path gives each of T steps a class, of which one is the blank. Runs of one class are merged, then
blanks are dropped; what is left should be the S labels y. With z_tk the log-probability of class k
at step t, the loss is

    l = -log P,      P = sum over the paths that give y of prod_t exp(z_t,path_t)

(Graves et al., "Connectionist Temporal Classification", ICML 2006).

Derivation. Put blanks between the labels and at both ends: y' of length 2S + 1. A path walks along
y' from one of its first two places to one of its last two, each step staying, going on by one, or
by two past a blank between labels that differ. Let a_t(s) be the summed probability of all ways to
stand at place s at step t, and b_t(s) that of all ways on from there to an end, both with the
factor of step t itself (equations 6 and 10):

    a_t(s) = exp(z_t,y'_s) (a_t-1(s) + a_t-1(s - 1) + a_t-1(s - 2) if that step is allowed)

and b likewise, backwards. So a_t(s) b_t(s) / exp(z_t,y'_s) is the probability of the paths through
s at step t, and P is the sum of these over s, for every t. Each such path has exp(z_tk), k = y'_s,
as a factor, once; so dP/dz_tk is the probability of the paths that have class k at step t, and

    dl/dz_tk = -(1 / P) sum over s with y'_s = k of a_t(s) b_t(s) / exp(z_tk) = -G_tk,

with G_tk the probability of class k at step t, given y. Steps after a sequence's end have none.

Both sums are taken in logarithms by ATen's kernels. The backward kernel gives exp(z) - G, which is
the gradient with respect to logits x where z = log_softmax(x): for the sum of G over k is 1, and
log_softmax turns -G into just that. Taking exp(z) off again leaves the gradient with respect to z,
which holds for every z, and which a `log_softmax` layer before the loss takes on from there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.losses.labels import any_true
from lincoln_fn.losses.loss import Loss, Reduction, reduced, require, value_range
from lincoln_fn.record import record
from lincoln_fn.shapes import LayerError


@record
class Kept:
    """The log-probabilities z with a batch axis, all labels in one row, and what the kernel keeps.

    nll holds the values as the kernel has them: infinite where T steps are too few for the labels.
    """

    z: Tensor
    labels: Tensor
    steps: Tensor
    lengths: Tensor
    nll: Tensor
    log_alpha: Tensor
    of: Tensor


def ctc(*, blank: int = 0, zero_infinity: bool = False, reduction: Reduction = "mean") -> Loss:
    """Make the loss of label sequences that are not aligned with the steps of the prediction.

    l = -log P, P the probability of all paths that give the labels; the module derives it.

    Args:
        blank: the class that stands for no label.
        zero_infinity: whether sequences too short for their labels cost 0, and not infinity.
        reduction: "mean" over the sequences, each divided by its number of labels (if there are
            any), "sum" of them, or "none".

    Returns:
        The loss, on log-probabilities of shape (T, N, C), and (labels, steps, lengths) as target:
        labels of shape (N, S) or in one row of the sum of lengths, and for each sequence its
        number of steps and of labels, both of shape (N,). Without a batch, (T, C), (S) and ().

    Raises:
        ValueError: if there is no such reduction, or blank is below 0.

    Example:
        >>> loss, z = ctc(), torch.full((2, 1, 2), 0.5).log()
        >>> one = torch.tensor([1])
        >>> value, cache = loss.forward(z, (one.view(1, 1), torch.tensor([2]), one))
        >>> value, loss.backward(cache)[0]
        (tensor(0.2877), tensor([[-0.3333, -0.6667]]))
    """
    require("ctc", blank >= 0, "blank of at least 0", blank)

    def values(given: Tensor, target: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Kept]:
        z, labels, steps, lengths = _read(given, target, blank)
        nll, log_alpha = torch.ops.aten._ctc_loss.Tensor(
            z, labels, steps, lengths, blank, zero_infinity
        )
        kept = Kept(z, labels, steps, lengths, nll, log_alpha, given)
        shown = torch.where(nll == torch.inf, 0, nll) if zero_infinity else nll
        return shown.to(given.dtype).view(given.shape[1:-1]), kept

    def slope(kept: Kept, dl: Tensor | float) -> Tensor:
        z, nll = kept.z, kept.nll
        dl = torch.as_tensor(dl, dtype=z.dtype, device=z.device).expand(nll.shape)
        dlogits: Tensor = torch.ops.aten._ctc_loss_backward.Tensor(
            dl.contiguous(),
            z,
            kept.labels,
            kept.steps,
            kept.lengths,
            nll,
            kept.log_alpha,
            blank,
            zero_infinity,
        )
        counts = torch.arange(len(z), device=z.device)[:, None] < kept.steps.to(z.device)
        if zero_infinity:
            counts = counts & (nll != torch.inf)
        dz = dlogits - torch.where(counts, dl, 0).unsqueeze(-1) * z.exp()
        return dz.to(kept.of.dtype).view(kept.of.shape)

    def count(kept: Kept) -> Tensor:
        n: Tensor = len(kept.lengths) * kept.lengths.clamp(min=1)
        return n.to(kept.of).view(kept.of.shape[1:-1])

    return reduced(
        "ctc",
        reduction,
        values,
        slope,
        count=count,
        targets=("labels", "steps", "lengths"),
        blank=(blank, 0),
        zero_infinity=(zero_infinity, False),
    )


def _read(
    given: Tensor, target: tuple[Tensor, Tensor, Tensor], blank: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Check everything, and give it a batch axis and the dtypes that the kernel takes."""
    if given.ndim not in (2, 3):
        shape = tuple(given.shape)
        raise LayerError("ctc", f"expected prediction of shape (T, N, C) or (T, C), got {shape}")
    z = given.view(len(given), -1, given.shape[-1])
    n_steps, n, classes = z.shape
    if blank >= classes:
        raise LayerError("ctc", f"expected more classes than blank={blank}, got {classes}")
    for what, tensor in zip(("labels", "steps", "lengths"), target, strict=True):
        if tensor.is_floating_point():
            raise LayerError("ctc", f"expected {what} of an integer dtype, got {tensor.dtype}")
    labels, steps, lengths = target
    batch = tuple(given.shape[1:-1])
    in_rows = labels.shape[:-1] == batch and labels.ndim > 0
    if not in_rows and labels.ndim != 1:
        wanted = f"{(*batch, 'S')} or (S,)".replace("'", "")
        raise LayerError("ctc", f"expected labels of shape {wanted}, got {tuple(labels.shape)}")
    longest = labels.shape[-1]
    for what, tensor, most in (("steps", steps, n_steps), ("lengths", lengths, longest)):
        if tensor.shape != batch:
            shapes = f"{batch} for prediction {tuple(given.shape)}, got {tuple(tensor.shape)}"
            raise LayerError("ctc", f"expected {what} of shape {shapes}")
        ends = value_range(tensor)
        if ends and not (ends[0] >= 0 and ends[1] <= most):
            wrong = ends[0] if ends[0] < 0 else ends[1]
            raise LayerError("ctc", f"expected {what} from 0 to {most}, got {wrong}")
    steps, lengths = steps.long().view(n), lengths.long().view(n)
    row = _in_one_row(labels, lengths, n if in_rows else 0)
    _check_labels(row, classes, blank)
    return z if z.dtype == torch.float64 else z.float(), row, steps, lengths


def _in_one_row(labels: Tensor, lengths: Tensor, rows: int) -> Tensor:
    """Put the sequences' labels one after another, without what fills up their rows."""
    if rows:
        labels = labels.view(rows, -1) if labels.numel() else labels.view(rows, 0)
        places = torch.arange(labels.shape[1], device=labels.device)
        return labels[places < lengths[:, None]].long()
    total = int(lengths.sum())
    if len(labels) != total:
        raise LayerError("ctc", f"expected {total} labels, the sum of lengths, got {len(labels)}")
    return labels.long()


def _check_labels(labels: Tensor, classes: int, blank: int) -> None:
    ends = value_range(labels)
    if ends and not (ends[0] >= 0 and ends[1] < classes):
        wrong = ends[0] if ends[0] < 0 else ends[1]
        raise LayerError("ctc", f"expected labels from 0 to {classes - 1}, got {wrong}")
    if ends and any_true(labels == blank):
        raise LayerError("ctc", f"expected labels other than blank={blank}, got {blank}")
