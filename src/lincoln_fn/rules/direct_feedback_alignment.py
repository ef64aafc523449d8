"""Direct feedback alignment: each block gets the error of the output by a random matrix of its own.

Derivation. Let e be dL/dy of the last layer that has matrices, and h_i the output of hidden block
i. Backpropagation computes dh_i from dh_(i+1). Here each comes from e, by a fixed random B_i:

    dh_i = e B_i

Within a block, g goes back as in backpropagation. B_i has the shape of e's last axis, then of h_i
without the axes that it shares with e: the batch, and in a sequence the length, if e has it.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from lincoln_fn.combine.serial import there
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, constructor
from lincoln_fn.initializers import Initializer, glorot_uniform
from lincoln_fn.rules import matrices
from lincoln_fn.rules.matrices import PROJECTIONS, Selector, blocks_of, has_matrices, of_blocks
from lincoln_fn.walk.internal import Record, VisitBack, check_entries, init_with_outputs, is_trained

_RULE: Final = "direct_feedback_alignment"
_INIT: Final = glorot_uniform()


def back(
    visit: VisitBack, params: Params, cache: Cache, g: Arrays, *, starts: tuple[int, ...]
) -> tuple[Arrays, Record]:
    """Compute dh_i = e B_i at the end of each hidden block, and go back within the block."""
    count = len(visit.parts)
    check_entries(visit.label, "params", params, count)
    check_entries(visit.label, "the cache", cache, count)
    ends = {start - 1: i for i, start in enumerate(starts[1:])}
    records = [None] * count
    error = None
    for i in reversed(range(count)):
        if i == starts[-1]:
            error = g
        if i in ends and error is not None:
            g = matrices.projected(error, params[-1].matrices[ends[i]])
        g, records[i] = visit(i, params[i], cache[i], g)
    return g, tuple(records)


def _needs_dx(i: int, params: Params, *, starts: tuple[int, ...]) -> bool:
    """Return whether a trained part needs dx of part i: behind the last layer, each does."""
    if i > starts[-1]:
        return any(map(is_trained, params[:i]))
    return matrices.needs_dx_in_block(i, params, starts=starts)


def _init(
    parts: tuple[Layer, ...],
    key: Key,
    x: Arrays,
    *,
    starts: tuple[int, ...],
    feedback_init: Initializer,
) -> Params:
    made, outputs = init_with_outputs(parts[:-1], key, x)
    drawn, error = key.fold_in(len(made)), outputs[starts[-1]]

    def draw(i: int, start: int) -> Tensor:
        key, hidden = drawn.fold_in(i), outputs[start - 1]
        return matrices.draw_projection(_RULE, key, error, hidden, feedback_init)

    projections = tuple(draw(i, start) for i, start in enumerate(starts[1:]))
    return (*made, matrices.Projections(projections))


@constructor
def direct_feedback_alignment(
    net: Layer, *, feedback_init: Initializer = _INIT, layers: Selector = has_matrices
) -> Layer:
    """Send the error of the output to each hidden block by a fixed random matrix: dh_i = e B_i.

    e is dL/dy of the last layer that has matrices, of shape (batch, n), or (batch, length, n) with
    hidden outputs (batch, length, ...). The network is made by `serial`. A block begins with each
    part that has matrices, so activations, norms and pooling belong to the layer before them.

    Args:
        feedback_init: draws each B_i, of shape (n, *hidden axes), with n as n_in.
        layers: whether a part begins a block. The default takes those with a dense, convolutional,
            bilinear or recurrent layer, or with attention.

    Returns:
        The network. Its params are those of net, and then a `State` that holds all B_i.

    Source:
        Nøkland, "Direct Feedback Alignment Provides Learning in Deep Neural Networks", 2016.

    Example:
        >>> net = direct_feedback_alignment(lf.serial(lf.dense(5), lf.tanh(), lf.dense(2)))
        >>> net.init(lf.Key(0), torch.zeros(1, 3))[-1]
        Projections(matrices=(float32[2, 5],))
    """
    starts = blocks_of(_RULE, net, layers)
    return of_blocks(net, starts, (PROJECTIONS,), there, back, init=_init, needs_dx=_needs_dx)
