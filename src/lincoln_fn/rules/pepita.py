"""PEPITA: a second forward pass, with the error added to the input, takes the place of backward.

Derivation. Let e be dL/dy of the last layer that has matrices, times the number of examples if the
loss is their mean, F a fixed random matrix, and h_i the output of part i. The network runs again,
on an input that the error has changed:

    tilde x = x + e F
    tilde h_i = "part"_i(tilde h_(i-1))

By how much a part's activity changes takes the place of its g, and its dparams are computed by its
own backward at the second pass:

    g_i = (a_i - tilde a_i) / N
    g_"last" = e / N

N is the number of examples if the loss is their mean, else 1. a_i is the activity behind part i:
the output of the last part after it, in the same block, up to which the shape stays the same. For a
dense layer before a ReLU it is the ReLU's output, and so dW = tilde h^T (a - tilde a) / N. The
network's own dx is that change, too: (x - tilde x) / N. Dropout has the same masks in both passes.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine.serial import back as serial_back
from lincoln_fn.combine.serial import there
from lincoln_fn.core import Arrays, Key, Layer, LayerError, Params, Positive, check_cache, record
from lincoln_fn.initializers import Initializer, he_uniform
from lincoln_fn.rules import matrices
from lincoln_fn.rules.matrices import PROJECTIONS, Selector, blocks_of, has_matrices, of_blocks
from lincoln_fn.walk import VisitBack, VisitThere, check_entries, is_trained
from lincoln_fn.walk.internal import Record, init_with_outputs

Reduction: TypeAlias = Literal["mean", "sum"]

_RULE: Final = "pepita"
_INIT: Final = he_uniform("fan_out")


@record
class Cache:
    """The input, the caches of the parts, and the activity behind each hidden part."""

    x: Tensor
    caches: tuple[core.Cache, ...]
    activities: tuple[Tensor, ...]


def _there(
    visit: VisitThere, params: Params, x: Arrays, *, starts: tuple[int, ...]
) -> tuple[Arrays, Cache]:
    check_entries(visit.label, "params", params, len(visit.parts))
    h, records, outputs = x, [], []
    for i, entry in enumerate(params):
        h, entry_record = visit(i, entry, h)
        records.append(entry_record)
        outputs.append(h)
    return h, Cache(x, tuple(records), _activities(outputs, starts))


def _activities(outputs: list[Tensor], starts: tuple[int, ...]) -> tuple[Tensor, ...]:
    """List a_i: the last output in i's block up to which all have the shape of output i."""
    activities = outputs[: starts[-1]]
    for i in reversed(range(starts[-1] - 1)):
        if i + 1 not in starts and outputs[i].shape == outputs[i + 1].shape:
            activities[i] = activities[i + 1]
    return tuple(activities)


def back(
    visit: VisitBack,
    params: Params,
    cache: Cache,
    g: Arrays,
    *,
    starts: tuple[int, ...],
    reduction: Reduction,
) -> tuple[Arrays, Record]:
    """Compute e, run the network again on x + e F, and give each part the change of activity."""
    check_cache(visit.label, cache, Cache)
    count, last = len(visit.parts), starts[-1]
    check_entries(visit.label, "params", params, count)
    records = [None] * count
    for i in reversed(range(last + 1, count)):
        g, records[i] = visit(i, params[i], cache.caches[i], g)
    if g is None:
        raise LayerError(visit.label, "expected the visitor to return dx behind the last layer")
    n = len(g) if reduction == "mean" else 1
    changed = cache.x + n * matrices.projected(g, params[-1].matrices[0])
    again, outputs, h = [], [], changed
    for i in range(last + 1):
        h, part_cache = visit.parts[i].forward(params[i], h)
        again.append(part_cache)
        outputs.append(h)
    _, records[last] = visit(last, params[last], again[last], g)
    pairs = zip(cache.activities, _activities(outputs, starts), strict=True)
    for i, (activity, changed_activity) in enumerate(pairs):
        _, records[i] = visit(i, params[i], again[i], (activity - changed_activity) / n)
    return (cache.x - changed) / n, tuple(records)


def true_back(visit: VisitBack, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    """Go back through the first pass."""
    check_cache(visit.label, cache, Cache)
    return serial_back(visit, params, cache.caches, g)


def _needs_dx(i: int, params: Params, *, starts: tuple[int, ...]) -> bool:
    """Return whether a trained part needs dx of part i: all need that behind the last layer."""
    return i > starts[-1] and any(map(is_trained, params[:i]))


def _init(
    parts: tuple[Layer, ...],
    key: Key,
    x: Arrays,
    *,
    starts: tuple[int, ...],
    feedback_init: Initializer,
    scale: float,
) -> Params:
    made, outputs = init_with_outputs(parts[:-1], key, x)
    drawn = key.fold_in(len(made))
    matrix = matrices.draw_projection(_RULE, drawn, outputs[starts[-1]], x, feedback_init)
    return (*made, matrices.Projections((scale * matrix,)))


@core.constructor
def pepita(
    net: Layer,
    *,
    reduction: Reduction = "mean",
    scale: Positive = 0.05,
    feedback_init: Initializer = _INIT,
    layers: Selector = has_matrices,
) -> Layer:
    """Learn from a second forward pass on x + e F, in place of a backward pass.

    e is dL/dy of the last layer that has matrices. Each layer before it takes the change of its
    activity between the two passes for its g, at the second pass.

    Args:
        net: the network, made by `serial`. Its x is a floating tensor of shape (batch, ...), and
            the output of its last layer with matrices has the shape (batch, n).
        reduction: the loss's, "mean" or "sum", which e is scaled by.
        scale: the factor of F.
        feedback_init: draws F, of shape (n, *axes of an example), with n as n_in. The default and
            the scale are the paper's.
        layers: whether a part begins a block, as in `direct_feedback_alignment`.

    Returns:
        The network. Its params are those of net, and then a `State` that holds F.

    Source:
        Dellaferrera and Kreiman, "Error-driven Input Modulation: Solving the Credit Assignment
        Problem without a Backward Pass", ICML 2022.

    Example:
        >>> net = pepita(lf.serial(lf.dense(5), lf.relu(), lf.dense(2)))
        >>> net.init(lf.Key(0), torch.zeros(1, 3))[-1]
        Projections(matrices=(float32[2, 3],))
    """
    starts = blocks_of(_RULE, net, layers)
    return of_blocks(
        net, starts, (PROJECTIONS,), _there, back, init=_init, advance=matrices.advance_parts,
        predict=there, needs_dx=_needs_dx,
    )  # fmt: skip
