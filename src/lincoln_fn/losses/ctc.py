"""Connectionist temporal classification: labels of a sequence, without their positions.

A path has a class for each of T steps; one class is the blank. Repeated classes are merged, then
blanks are removed. The result should be the S labels y. With z_(t,k) the log-probability of class k
at step t, and the sum over the paths that give y,

    P = sum_("paths") prod_t e^(z_(t,"path"_t))
    l = -log P

Derivation. Put blanks between the labels and at both ends: y' of length 2 S + 1. A path moves
through y' from one of its first two positions to one of its last two. Each step stays, moves by one
position, or by two if that skips a blank between different labels. Write e_t(s) for z_(t,k) of the
class k = y'_s. The forward variable alpha_t(s) is the summed probability of all paths that are at
position s after step t. Before the first step a path is at the first position:

    alpha_0(s) = {(1, if s = 0), (0, otherwise):}
    alpha_t(s) = e^(e_t(s)) sum_r alpha_(t-1)(r)    over r = s, s - 1, and s - 2 if allowed

The backward variable beta_t(s) is the summed probability of all paths from there to an end:

    beta_T(s) = {(1, if s = 2 S or s = 2 S - 1), (0, otherwise):}
    beta_t(s) = sum_r e^(e_(t+1)(r)) beta_(t+1)(r)    over r = s, s + 1, and s + 2 if allowed
    P = sum_s alpha_T(s) beta_T(s)

So alpha_t(s) beta_t(s) is the probability of the paths that give y and are at s after step t. Each
of these probabilities has the factor e^(z_(t,k)), k = y'_s, once. So its derivative with respect to
z_(t,k) is the probability itself:

    (dP)/(dz_(t,k)) = sum_(s: y'_s = k) alpha_t(s) beta_t(s)
    dz_(t,k) = -sum_(s: y'_s = k) (alpha_t(s) beta_t(s)) / P dl

Steps after a sequence's end have the gradient 0. If there are too few steps for the labels, l is
infinite and dz is nan; with zero_infinity, both are 0.

The recursions use logarithms, in float64: in float32, the logarithm of a product over hundreds of
steps is not accurate enough for its exponential.

Cache: z, the class of each position and whether a step may skip to it, log alpha, log P, the number
of steps and of labels. Source: Graves et al., "Connectionist Temporal Classification", ICML 2006.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from lincoln_fn.core import NonNegativeInt, constructor, unexpected
from lincoln_fn.losses.common.checks import all_within, check_between
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, make_loss

# The labels, in rows or in one row, and how many steps and labels each sequence has.
Target: TypeAlias = tuple[Int[Tensor, "*N S"], Int[Tensor, "*N"], Int[Tensor, "*N"]]
Prediction: TypeAlias = Float[Tensor, "T *N C"]
# Of each sequence: its labels, and how many steps or labels it has.
Rows: TypeAlias = Int[Tensor, "N S"]
Counts: TypeAlias = Int[Tensor, " N"]
# Of each place s in y': its class, whether a step may skip the place before, and a logarithm.
Places: TypeAlias = Int[Tensor, "N s"]
MaySkip: TypeAlias = Bool[Tensor, "N s"]
Logs: TypeAlias = Float[Tensor, "*T N s"]
# log 0, finite so that a difference of infinities does not give nan. Only sums with it are below
# IMPOSSIBLE.
LOG_ZERO: Final = -1e200
IMPOSSIBLE: Final = LOG_ZERO / 2


def forward(
    z: Prediction, target: Target, *, blank: int, zero_infinity: bool
) -> tuple[Float[Tensor, "*N"], Tensors]:
    """Compute l = -log P, by the recursion of alpha."""
    labels, steps, lengths = _read_target(z, target, blank)
    place = _places(labels, lengths, blank)
    may_skip = (place != blank) & (place != _shift(place, 2, blank))
    log_alpha = _log_alpha(_log_factors(z, place), may_skip)
    at_end = log_alpha.gather(0, steps.unsqueeze(1).expand(1, *place.shape)).squeeze(0)
    log_p = torch.logsumexp(at_end + _log_end(place, lengths), 1)
    value = torch.where(log_p > IMPOSSIBLE, -log_p, 0.0 if zero_infinity else torch.inf)
    cache = z, place, may_skip, log_alpha[1:], log_p, steps, lengths
    return value.to(z.dtype).reshape(z.shape[1:-1]), cache


def backward(cache: Tensors, dl: Cotangent, *, zero_infinity: bool) -> Prediction:
    """Compute dz_tk = -sum over s with y'_s = k of alpha_t(s) beta_t(s) / P dl."""
    z, place, may_skip, log_alpha, log_p, steps, lengths = cache
    log_beta = _log_beta(_log_factors(z, place), may_skip, _log_end(place, lengths), steps)
    is_possible = log_p.unsqueeze(1) > IMPOSSIBLE
    log_p = torch.where(is_possible, log_p.unsqueeze(1), 0.0)
    of_place = torch.exp(log_alpha + log_beta - log_p)
    of_class = torch.zeros_like(z).double().view(len(z), len(place), -1)
    of_class = of_class.scatter_add(2, place.expand(of_place.shape), of_place)
    dl = dl.reshape(-1, 1) if isinstance(dl, Tensor) else dl
    dz = torch.where(is_possible, -of_class * dl, 0.0 if zero_infinity else torch.nan)
    is_step = torch.arange(len(z), device=z.device).unsqueeze(1) < steps
    return torch.where(is_step.unsqueeze(2), dz, 0.0).to(z.dtype).reshape(z.shape)


def _log_alpha(log_factors: Logs, may_skip: MaySkip) -> Logs:
    is_first = torch.arange(may_skip.shape[1], device=may_skip.device) == 0
    log_alpha = [_log(is_first).expand(may_skip.shape)]
    for e in log_factors:
        a = log_alpha[-1]
        skipping = torch.where(may_skip, _shift(a, 2), LOG_ZERO)
        log_alpha.append(e + torch.logsumexp(torch.stack([a, _shift(a, 1), skipping]), 0))
    return torch.stack(log_alpha)


def _log_beta(log_factors: Logs, may_skip: MaySkip, log_end: Logs, steps: Counts) -> Logs:
    log_beta = [log_end]
    for t in range(len(log_factors) - 1, 0, -1):
        b = log_factors[t] + log_beta[-1]
        skipping = _shift(torch.where(may_skip, b, LOG_ZERO), -2)
        b = torch.logsumexp(torch.stack([b, _shift(b, -1), skipping]), 0)
        # A shorter sequence's last step is before T.
        log_beta.append(torch.where(t < steps.unsqueeze(1), b, log_end))
    return torch.stack(log_beta[::-1])


def _places(labels: Rows, lengths: Counts, blank: int) -> Places:
    """Compute y', with blanks between the labels and at both ends."""
    blanks = torch.full_like(lengths, blank).unsqueeze(1)
    between = torch.stack([blanks.expand_as(labels), labels], 2).flatten(1)
    return torch.cat([between, blanks], 1)


def _log_factors(z: Prediction, place: Places) -> Logs:
    """Take e_t(s) = z_tk of the class k = y'_s."""
    index = place.expand(len(z), *place.shape)
    return z.reshape(len(z), -1, z.shape[-1]).gather(2, index).double().clamp(min=LOG_ZERO)


def _log_end(place: Places, lengths: Counts) -> Logs:
    """Compute log beta_T: 0 at the last two positions of each sequence."""
    s, last = torch.arange(place.shape[1], device=place.device), 2 * lengths.unsqueeze(1)
    return _log((s == last) | (s == last - 1))


def _log(is_one: Bool[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    return is_one.logical_not().double() * LOG_ZERO


def _shift(x: Tensor, by: int, fill: float = LOG_ZERO) -> Tensor:
    if by > 0:
        return pad(x, (by, 0), value=fill)[..., : x.shape[-1]]
    return pad(x, (0, -by), value=fill)[..., -by:]


def count(cache: Tensors) -> Float[Tensor, "*N"]:
    """Compute what a mean divides each l by: N times its number of labels, if there are any."""
    z, *_, lengths = cache
    n = len(lengths) * lengths.clamp(min=1)
    # float16 ends at 65504.
    return n.to(z.device, torch.promote_types(z.dtype, torch.float32)).reshape(z.shape[1:-1])


@constructor
def ctc(
    *, blank: NonNegativeInt = 0, zero_infinity: bool = False, reduction: Reduction = "mean"
) -> Loss:
    """Make the loss for label sequences that are not aligned with the steps of the prediction.

    l = -log P, with P the summed probability of all paths that give the labels. A path has one
    class per step; repeated classes are merged, and then blanks are removed.

    Log-probabilities have shape (T, N, C), and the target is (labels, steps, lengths): labels of
    shape (N, S), or all in one row, and for each sequence its number of steps and of labels, both
    of shape (N,). Without a batch, the shapes are (T, C), (S) and ().

    Args:
        blank: the class that means no label.
        zero_infinity: whether sequences too short for their labels have the loss 0, not infinity.
        reduction: "mean" over the sequences, each divided by its number of labels (if there are
            any), "sum" of them, or "none".

    Example:
        >>> loss, z = lf.losses.ctc(), torch.full((2, 1, 2), 0.5).log()
        >>> one = torch.tensor([1])
        >>> value, cache = loss.forward(z, (one.view(1, 1), torch.tensor([2]), one))
        >>> value, loss.backward(cache)[0]
        (tensor(0.2877), tensor([[-0.3333, -0.6667]]))
    """
    return make_loss(forward, backward, count=count, targets=("labels", "steps", "lengths"))


def _read_target(z: Prediction, target: Target, blank: int) -> tuple[Rows, Counts, Counts]:
    """Check everything, and add a batch axis to the target; pad rows of labels with blanks."""
    in_rows = _check_shapes(z, target, blank)
    labels = target[0].long()
    steps, lengths = (tensor.long().reshape(-1) for tensor in target[1:])
    check_between("ctc", "steps", steps, 0, len(z))
    check_between("ctc", "lengths", lengths, 0, labels.shape[-1])
    rows = labels if in_rows else _in_rows(labels, lengths)
    rows = rows.reshape(len(lengths), rows.shape[-1])
    is_label = torch.arange(rows.shape[1], device=rows.device) < lengths.unsqueeze(1)
    # The padding after a row's labels may be any number.
    inside = torch.where(is_label, rows, (blank + 1) % z.shape[-1])
    check_between("ctc", "labels", inside, 0, z.shape[-1] - 1)
    if all_within(is_label & (rows == blank), 0, 0) is False:
        raise unexpected("ctc", f"labels other than blank={blank}", blank)
    return torch.where(is_label, rows, blank), steps, lengths


def _check_shapes(z: Tensor, target: Target, blank: int) -> bool:
    """Check shapes and dtypes, and return whether each sequence's labels have a row."""
    if z.ndim not in (2, 3):
        raise unexpected("ctc", "prediction of shape (T, N, C) or (T, C)", z.shape)
    if blank >= z.shape[-1]:
        raise unexpected("ctc", f"more classes than blank={blank}", z.shape[-1])
    for what, tensor in zip(("labels", "steps", "lengths"), target, strict=True):
        if tensor.is_floating_point():
            raise unexpected("ctc", f"{what} of an integer dtype", tensor.dtype)
    labels, batch = target[0], tuple(z.shape[1:-1])
    in_rows = labels.shape[:-1] == batch and labels.ndim > 0
    if not in_rows and labels.ndim != 1:
        wanted = f"{(*batch, 'S')} or (S,)".replace("'", "")
        raise unexpected("ctc", f"labels of shape {wanted}", labels.shape)
    for what, tensor in zip(("steps", "lengths"), target[1:], strict=True):
        if tensor.shape != batch:
            expected = f"{what} of shape {batch} for prediction {tuple(z.shape)}"
            raise unexpected("ctc", expected, tensor.shape)
    return in_rows


def _in_rows(labels: Int[Tensor, " sum"], lengths: Counts) -> Rows:
    longest = len(labels)
    if all_within(lengths, 0, longest) is not None:  # they can be read
        longest, total, given = int(lengths.max()), int(lengths.sum()), len(labels)
        if total != given:
            raise unexpected("ctc", f"{total} labels, the sum of lengths", given)
    starts = lengths.cumsum(0) - lengths
    index = starts.unsqueeze(1) + torch.arange(longest, device=labels.device)
    return labels[index.clamp(max=max(len(labels) - 1, 0))]
