"""Forward-Forward: each block learns to tell true labels from false ones by its goodness.

Derivation. The label is part of the input. h_j is the output of block j, with n_j numbers for each
example, and the goodness G_j is by how much their squares exceed a threshold of theta for each:

    G_j = sum_k h_(jk)^2 - theta n_j
    dh_(jk) = 2 h_(jk) dG_j

The next block gets h_j of root mean square 1, so that it cannot see the goodness, and no gradient
goes back through this:

    x_(j+1) = h_j / (sqrt(mean(h_j^2)) + epsilon)

`predict` puts each label in turn into the input. Its logits are the sums of the goodness of all
blocks but the first, which sees the label itself.

Derivation of the loss. s = 1 for an example with a true label and -1 for one with a false label.
The logistic loss of each block's goodness, summed over the blocks, with the sigmoid sigma, is

    l = sum_j log(1 + e^(-s G_j))
    dG_j = -s sigma(-s G_j) dl

Cache: those of the parts, and h_j; of the loss, G and s.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, Layer, Params, Positive, format_briefly, record, unexpected
from lincoln_fn.losses import Loss, Reduction, internal
from lincoln_fn.losses.internal import Cotangent, Tensors, make_loss, per_example, probabilities
from lincoln_fn.rules import matrices
from lincoln_fn.rules.local_loss import Classes
from lincoln_fn.rules.matrices import Selector, blocks_of, has_matrices, of_blocks
from lincoln_fn.walk.internal import Record, VisitBack, VisitThere, check_entries


def forward(goodness: Float[Tensor, "N blocks"], target: Tensor) -> tuple[Tensor, Tensors]:
    """Compute l = sum_j log(1 + e^(-s G_j))."""
    s = 2 * probabilities("forward_forward_loss", target, goodness[:, :1]) - 1
    return torch.nn.functional.softplus(-s * goodness).sum(1), (goodness, s)


def backward(cache: Tensors, dl: Cotangent) -> Float[Tensor, "N blocks"]:
    """Compute dG_j = -s sigma(-s G_j) dl."""
    goodness, s = cache
    return -s * torch.sigmoid(-s * goodness) * per_example(dl, 1)


@core.constructor
def forward_forward_loss(*, reduction: Reduction = "mean") -> Loss:
    """Make the logistic loss of each block's goodness, summed over the blocks.

    Goodness has shape (N, blocks), targets (N,): 1 for a true label, 0 for a false one.

    Args:
        reduction: "mean" over the examples, "sum" of them, or "none".

    Example:
        >>> loss = forward_forward_loss()
        >>> value, cache = loss.forward(torch.zeros(2, 1), torch.tensor([1.0, 0.0]))
        >>> value, loss.backward(cache)
        (tensor(0.6931), tensor([[-0.2500],
                [ 0.2500]]))
    """
    return make_loss(forward, backward)


# Examples, the goodness of each block, and class indices.
Examples: TypeAlias = Float[Tensor, " batch *features"]
Goodness: TypeAlias = Float[Tensor, "batch blocks"]
Labels: TypeAlias = Int[Tensor, " batch"]
_EPS: Final = 1e-8


@record
class Cache:
    """The caches of the parts, and the output of each block."""

    caches: tuple[core.Cache, ...]
    outputs: tuple[Tensor, ...]


def _there(
    visit: VisitThere, params: Params, x: Arrays, *, starts: tuple[int, ...], threshold: float
) -> tuple[Goodness, Cache]:
    """Compute G_j of each block, from the normalised output of the block before it."""
    check_entries(visit.label, "params", params, len(visit.parts))
    h, records, outputs = x, [], []
    for i, entry in enumerate(params):
        if i in starts[1:]:
            outputs.append(h)
            h = h / (_flat(h).square().mean(1).sqrt() + _EPS).reshape(-1, *(1,) * (h.ndim - 1))
        h, of_part = visit(i, entry, h)
        records.append(of_part)
    outputs.append(h)
    goodness = [_flat(h).square().sum(1) - threshold * _flat(h).shape[1] for h in outputs]
    return torch.stack(goodness, 1), Cache(tuple(records), tuple(outputs))


def _flat(h: Examples) -> Float[Tensor, "batch n"]:
    return h.flatten(1)


def back(
    visit: VisitBack, params: Params, cache: Cache, g: Goodness, *, starts: tuple[int, ...]
) -> tuple[Arrays, Record]:
    """Begin at the end of each block with dh = 2 h dG."""
    core.check_cache(visit.label, cache, Cache)
    count = len(visit.parts)
    blocks = {end - 1: j for j, end in enumerate((*starts[1:], count))}
    records = [None] * count
    dx: Arrays = None
    for i in reversed(range(count)):
        if i in blocks:
            h, dgoodness = cache.outputs[blocks[i]], g[:, blocks[i]]
            dx = 2 * h * dgoodness.reshape(-1, *(1,) * (h.ndim - 1))
        dx, records[i] = visit(i, params[i], cache.caches[i], dx)
    return dx, tuple(records)


def _predict(
    visit: VisitThere,
    params: Params,
    x: Examples,
    *,
    starts: tuple[int, ...],
    threshold: float,
    n_classes: int,
) -> tuple[Float[Tensor, "batch n_classes"], None]:
    """Compute the goodness of each label, summed over all blocks but the first."""
    labels = torch.arange(n_classes, device=x.device).repeat_interleave(len(x))
    each = with_label(x.repeat(n_classes, *(1,) * (x.ndim - 1)), labels, n_classes)
    goodness, _ = _there(visit, params, each, starts=starts, threshold=threshold)
    counted = goodness[:, 1:] if len(starts) > 1 else goodness
    return counted.sum(1).reshape(n_classes, len(x)).mT, None


@core.constructor
def forward_forward(
    net: Layer, n_classes: Classes, *, threshold: Positive = 1.0, layers: Selector = has_matrices
) -> Layer:
    """Let each block learn by its goodness: the squares of its output, for a true or false label.

    `forward` takes inputs with a label in them, such as those of `true_and_false_labels`, and
    returns each block's goodness, (batch, blocks). `forward_forward_loss` is its loss. `predict`
    takes inputs without labels, and returns logits, (batch, n_classes).

    Args:
        net: the network, made by `serial`, of blocks that end with a ReLU or the like. The block of
            the last layer has a goodness, too: there is no output layer.
        n_classes: at least 2. The first n_classes numbers of an example are replaced by its label.
        threshold: theta, what the mean square of a block's output is compared with.
        layers: whether a part begins a block, as in `direct_feedback_alignment`.

    Source:
        Hinton, "The Forward-Forward Algorithm: Some Preliminary Investigations", 2022, section 3.3.

    Example:
        >>> net = forward_forward(lf.serial(lf.dense(5), lf.relu(), lf.dense(4), lf.relu()), 3)
        >>> x = lf.keys.uniform(lf.Key(1), (2, 6))
        >>> params = net.init(lf.Key(0), x)
        >>> net.forward(params, x)[0].shape, net.predict(params, x).shape
        (torch.Size([2, 2]), torch.Size([2, 3]))
    """
    return of_blocks(
        net, blocks_of("forward_forward", net, layers), (), _there, back,
        advance=matrices.advance_parts, predict=_predict, needs_dx=matrices.needs_dx_in_block,
    )  # fmt: skip


def with_label(x: Examples, labels: Labels, n_classes: int) -> Examples:
    """Replace the first n_classes numbers of each example by its one-hot label.

    Example:
        >>> with_label(torch.zeros(2, 4), torch.tensor([0, 2]), 3)
        tensor([[1., 0., 0., 0.],
                [0., 0., 1., 0.]])
    """
    if x.ndim < 2 or x[0].numel() < n_classes:
        wanted = f"x with at least {n_classes} numbers an example"
        raise core.unexpected("with_label", wanted, format_briefly(x))
    fits = isinstance(labels, Tensor) and labels.shape == x.shape[:1]
    if not fits or labels.is_floating_point():
        expected = f"labels to be class indices of shape ({len(x)},)"
        raise unexpected("with_label", expected, format_briefly(labels))
    if labels.device != x.device:
        raise unexpected("with_label", f"labels on {x.device}", labels.device)
    internal.check_between("with_label", "labels", labels, 0, n_classes - 1)
    flat = x.flatten(1)
    hot = (labels.unsqueeze(1) == torch.arange(n_classes, device=x.device)).to(x.dtype)
    return torch.cat((hot, flat[:, n_classes:]), 1).view(x.shape)


def true_and_false_labels(
    key: Key, x: Examples, labels: Labels, n_classes: int
) -> tuple[Examples, Float[Tensor, " 2*batch"]]:
    """Make a batch for Forward-Forward: each example with its own label, and with a false one.

    The false labels are drawn from the key, uniformly. `with_label` puts labels into examples.

    Returns:
        First the examples with true labels, then with false ones; and the target, 1 and then 0.

    Example:
        >>> true_and_false_labels(lf.Key(0), torch.ones(1, 3), torch.tensor([1]), 2)
        (tensor([[0., 1., 1.],
                [1., 0., 1.]]), tensor([1., 0.]))
    """
    core.check_argument("true_and_false_labels", "n_classes", Classes, n_classes)
    true = with_label(x, labels, n_classes)
    key = core.checked_key("true_and_false_labels", key).near(x)
    drawn = core.keys.uniform(key, tuple(labels.shape))
    others = (labels + 1 + (drawn * (n_classes - 1)).long()) % n_classes
    target = torch.cat((x.new_ones(len(x)), x.new_zeros(len(x))))
    return torch.cat((true, with_label(x, others, n_classes))), target
