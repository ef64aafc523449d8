"""Loss of a vector quantisation: codes are drawn to their vectors, and vectors to their codes.

With a vector x and its code q, and each of them in turn taken for a constant by `stop_gradient`,

    a = "stop"(x) - q
    b = x - "stop"(q)
    l = a^2 + beta b^2    element by element

The first term moves the codes; the second, beta times, keeps the vectors near their codes.

Derivation.

    da = 2 a dl
    db = 2 beta b dl
    dq = -da
    dx = db

Cache: a and b, and that of the stop. Source: van den Oord et al., "Neural Discrete Representation
Learning", 2017, equation 3.
"""

from __future__ import annotations

from functools import partial
from typing import Final, TypeAlias

import attrs

from lincoln_fn.core import LayerError, NonNegative, Params, bare, constructor
from lincoln_fn.layers.stop_gradient import stop_gradient
from lincoln_fn.losses.common.reduction import Back, There
from lincoln_fn.losses.internal import Cotangent, Elements, Formula, Loss, Reduction, loss_of
from lincoln_fn.losses.through import through
from lincoln_fn.walk.internal import Record, VisitBack, VisitThere, composition

NAME: Final = "vector_quantization"
Pair: TypeAlias = tuple[Elements, Elements]


def forward(differences: Pair, target: None, *, beta: float) -> tuple[Elements, Pair]:
    """Compute l = a^2 + beta b^2."""
    a, b = differences
    return a.square() + beta * b.square(), differences


def backward(cache: Pair, dl: Cotangent, *, beta: float) -> Pair:
    """Compute da = 2 a dl and db = 2 beta b dl."""
    a, b = cache
    return 2 * a * dl, 2 * beta * b * dl


def _there(visit: VisitThere, params: Params, pair: Pair) -> tuple[Pair, Record]:
    """Compute a = stop(x) - q and b = x - stop(q)."""
    if type(pair) is not tuple or len(pair) != 2 or pair[0].shape != pair[1].shape:
        problem = "expected prediction (x, q) of one shape, as vector_quantize makes it"
        raise LayerError(NAME, problem)
    x, q = pair
    (of_x, of_q), stopped = visit(0, params[0], pair)
    return (of_x - q, x - of_q), (stopped,)


def _back(visit: VisitBack, params: Params, cache: Record, g: Pair) -> tuple[Pair, Record]:
    """Compute dx = db and dq = -da."""
    da, db = g
    _, stopped = visit(0, params[0], cache[0], (da, -db))
    return (db, -da), (stopped,)


_DIFFERENCES: Final = composition("differences", (stop_gradient(),), _there, _back)


@constructor
def vector_quantization(*, beta: NonNegative = 0.25, reduction: Reduction = "mean") -> Loss:
    """Make the loss that draws codes to their vectors, and vectors to their codes.

    l = (stop(x) - q)^2 + beta (x - stop(q))^2, element by element. The first term moves the codes,
    the second the vectors. x and q have one shape: the prediction are the second and the third
    output of `vector_quantize`, and the target is None.

    Example:
        >>> loss, x, q = lf.losses.vector_quantization(), torch.tensor([3.0]), torch.tensor([1.0])
        >>> value, cache = loss.forward((x, q), None)
        >>> value, loss.backward(cache)
        (tensor(5.), (tensor([1.]), tensor([-4.])))
    """
    return bare(partial(_made, reduction=reduction), forward, backward)


def _made(call: str, forward: There, backward: Back, *, reduction: str) -> Loss:
    squares = Formula(NAME, reduction, forward, backward, inputs=("a", "b"), targets=())
    return attrs.evolve(through(_DIFFERENCES, loss_of(call, squares)), name=call)
