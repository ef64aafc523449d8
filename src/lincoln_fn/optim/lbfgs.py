"""L-BFGS: steps along an approximate Newton direction, each as long as a line search finds.

The inverse H of the second derivative is known by the last pairs of moves s = p_new - p_old and
changes of the gradient y = g_new - g_old, for which H y = s. With rho = 1 / (y s), from the newest
pair to the oldest, and back,

    q = g
    a = rho s q,  q <- q - a y          for each pair
    r = q (y s) / (y y)                 of the newest pair
    r <- r + (a - rho y r) s            for each pair
    p <- p - t r

t is the line search's. Without a pair, r is g, and the first t is 1 / |g|_1.

**The line search** finds how far to go along a direction. There, the loss is a function f of the
distance t, of slope f'. The search ends at a t that meets the strong Wolfe conditions,

    f(t) <= f(0) + c1 t f'(0)        the loss has fallen enough,
    |f'(t)| <= -c2 f'(0)             and its slope is small enough.

First t grows until an interval has such a point in it. Then the interval shrinks around it. Each t
is the least place of the cubic polynomial that has the value and the slope of both ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import NonNegative, Params, Positive, PositiveInt, record, tree, unexpected
from lincoln_fn.optim.leaves import check_whole, flatten_with_gradients

Batch: TypeAlias = Any  # whatever the function takes
# (params, batch) -> (loss, gradient)
ValueAndGradient: TypeAlias = Callable[[Params, Batch], tuple[Tensor, Params]]
# y s below this is rounding, and would make H infinite.
_LEAST_CURVATURE: Final = 1e-10


@record
class LbfgsState:
    """The parameters, how many steps were taken, and the last pairs.

    `moves` (history_size, n) has s, and `changes` y, of all n numbers, the newest in the last row.
    `pairs` is how many rows are filled.
    """

    params: Params
    step: Tensor
    pairs: Tensor
    moves: Tensor
    changes: Tensor


Step: TypeAlias = Callable[[LbfgsState, Batch], tuple[LbfgsState, Tensor]]


class Pair(NamedTuple):
    """A move s, the change y of the gradient along it, and rho = 1 / (y s)."""

    move: Tensor
    change: Tensor
    rho: Tensor


@core.checked
def lbfgs_state(params: Any, history_size: PositiveInt = 100) -> LbfgsState:  # Any: a tree
    """Make the state of `lbfgs` before the first step.

    Args:
        params: the parameters to start from, whole and not none.
        history_size: the most pairs that are kept. A pair takes the memory of the params twice.

    Example:
        >>> lbfgs_state(torch.zeros(3), history_size=5).moves.shape
        torch.Size([5, 3])
    """
    check_whole("lbfgs", params)
    leaves = tree.leaves(params)
    if not leaves:
        raise unexpected("lbfgs", "parameters", "none")
    flat = _join(leaves)
    count = torch.zeros((), dtype=torch.int64, device=flat.device)
    rows = flat.new_zeros(history_size, flat.numel())
    return LbfgsState(params, count, count.clone(), rows, rows.clone())


@core.constructor
def lbfgs(
    value_and_gradient: Callable[..., Any],  # Any: as `ValueAndGradient` says
    lr: Positive = 1.0,
    max_iter: PositiveInt = 20,
    max_eval: PositiveInt | None = None,
    tolerance_grad: NonNegative = 1e-7,
    tolerance_change: NonNegative = 1e-9,
) -> Callable[[LbfgsState, Any], tuple[LbfgsState, Tensor]]:
    """Make the step of L-BFGS with a strong Wolfe line search, for full batches.

    A step computes the loss and its gradient several times on the same batch. So it is no
    `Optimizer`, but a step for `train`:

        step = lf.optim.lbfgs(lf.value_and_gradient(net, loss))
        state = lf.optim.lbfgs_state(params)
        for state, record in lf.train(step, state, [(x, target)] * 10):
            ...

    The function has to give the same numbers each time, without dropout, say. Running statistics
    and keys stay as they are. The loss that a step returns is that before it.

    Args:
        value_and_gradient: (params, batch) -> (loss, gradient), such as `lf.value_and_gradient`
            makes of a network and its loss, compiled or not.
        lr: the first length of each line search.
        max_iter: how many moves a step makes, at most.
        max_eval: how often a step computes the loss, about; None is 1.25 max_iter. The first move
            is made whatever it is, as in torch.
        tolerance_grad: a step ends where no number of the gradient is larger.
        tolerance_change: a step ends where the loss, or every parameter, changes by less.

    Source: Nocedal and Wright, "Numerical Optimization", 2006, algorithms 7.4, 7.5, 3.5 and 3.6, in
    the form of torch.optim.LBFGS.

    Example:
        >>> def bowl(params, batch):
        ...     return ((params - batch) ** 2).sum(), 2 * (params - batch)
        >>> step, state = lbfgs(bowl), lbfgs_state(torch.zeros(2))
        >>> state, value = step(state, torch.tensor([3.0, 4.0]))
        >>> value, state.params
        (tensor(25.), tensor([3.0000, 4.0000]))
    """
    most = max_iter * 5 // 4 if max_eval is None else max_eval
    return core.bare(_completed, partial(_step, value_and_gradient, max_eval=most))


def _completed(name: str, step: Step) -> Step:
    """Return the step with the arguments that `constructor` has bound to it."""
    return step


def _step(
    value_and_gradient: ValueAndGradient,
    state: LbfgsState,
    batch: Batch,
    *,
    lr: float,
    max_iter: int,
    max_eval: int,
    tolerance_grad: float,
    tolerance_change: float,
) -> tuple[LbfgsState, Tensor]:
    """Make up to max_iter moves, each along a direction of its own."""
    _check_state(state)
    compute = partial(_compute, value_and_gradient, state.params, batch)
    flat, pairs = _join(tree.leaves(state.params)), _pairs(state)
    value, gradient = compute(flat)
    now, evaluations = Point(0.0, value.item(), gradient, 0.0), 1
    for _ in range(max_iter):
        if now.gradient.abs().max() <= tolerance_grad:
            break
        direction = _direction(now.gradient, pairs)
        start = now._replace(t=0.0, slope=now.gradient.dot(direction).item())
        if start.slope > -tolerance_change:
            break
        t = lr if pairs else lr * min(1.0, 1 / now.gradient.abs().sum().item())
        least, most = tolerance_change / direction.abs().max().item(), max_eval - evaluations
        now, computed = search(
            partial(_point, compute, flat, direction), start, t, least=least, most=most
        )
        evaluations += computed
        move, change = now.t * direction, now.gradient - start.gradient
        flat = flat + move
        if (curvature := move.dot(change)) > _LEAST_CURVATURE:
            pairs = [*pairs, Pair(move, change, 1 / curvature)][-len(state.moves) :]
        is_still = move.abs().max() <= tolerance_change
        is_flat = abs(now.value - start.value) < tolerance_change
        # After a move, for the evaluation before it may be all that max_eval allows.
        if is_still or is_flat or evaluations >= max_eval:
            break
    moves = _rows([pair.move for pair in pairs], state.moves)
    changes = _rows([pair.change for pair in pairs], state.changes)
    count, params = torch.full_like(state.pairs, len(pairs)), _unflatten(flat, state.params)
    return LbfgsState(params, state.step + 1, count, moves, changes), value


def _check_state(state: LbfgsState) -> None:
    """Check that a state is one, and that its pairs are of its parameters."""
    if not isinstance(state, LbfgsState):
        mend = "lbfgs_state(params) makes one"
        raise unexpected("lbfgs", "state LbfgsState", core.describe(state), mend)
    numbers = sum(leaf.numel() for leaf in tree.leaves(state.params))
    if state.moves.shape[1] != numbers:
        expected = f"moves of {numbers} numbers"
        raise unexpected("lbfgs", expected, state.moves.shape[1], "lbfgs_state(params) makes them")


def _compute(
    value_and_gradient: ValueAndGradient, like: Params, batch: Batch, flat: Tensor
) -> tuple[Tensor, Tensor]:
    params = _unflatten(flat, like)
    value, gradient = value_and_gradient(params, batch)
    return value, _join(flatten_with_gradients("lbfgs", params, gradient)[1])


def _point(
    compute: Callable[[Tensor], tuple[Tensor, Tensor]], flat: Tensor, direction: Tensor, t: float
) -> Point:
    value, gradient = compute(flat + t * direction)
    return Point(t, value.item(), gradient, gradient.dot(direction).item())


def _direction(gradient: Tensor, pairs: Sequence[Pair]) -> Tensor:
    q, shares = -gradient, list[Tensor]()
    for move, change, rho in reversed(pairs):
        shares.append(rho * move.dot(q))
        q = q - shares[-1] * change
    if pairs:
        q = q / (pairs[-1].rho * pairs[-1].change.dot(pairs[-1].change))
    for (move, change, rho), share in zip(pairs, reversed(shares), strict=True):
        q = q + (share - rho * change.dot(q)) * move
    return q


def _pairs(state: LbfgsState) -> list[Pair]:
    """List the pairs of a state, the newest last."""
    empty = len(state.moves) - int(state.pairs)
    rows = zip(state.moves[empty:], state.changes[empty:], strict=True)
    return [Pair(move, change, 1 / move.dot(change)) for move, change in rows]


def _rows(vectors: Sequence[Tensor], like: Tensor) -> Tensor:
    """Stack vectors below rows of zeros; `_pairs` reads them."""
    return torch.cat((torch.zeros_like(like[len(vectors) :]), *(v[None] for v in vectors)))


def _join(leaves: Sequence[Tensor]) -> Tensor:
    return torch.cat([leaf.reshape(-1) for leaf in leaves])


def _unflatten(flat: Tensor, like: Params) -> Params:
    sizes = [leaf.numel() for leaf in tree.leaves(like)]
    parts = iter(torch.split(flat, sizes))
    return tree.map(lambda leaf: next(parts).view(leaf.shape).to(leaf.dtype), like)


C1: Final = 1e-4
C2: Final = 0.9


class Point(NamedTuple):
    """A place on the line: how far it is, the loss there, its gradient and its slope."""

    t: float
    value: float
    gradient: Tensor
    slope: float


def search(
    at: Callable[[float], Point], start: Point, t: float, *, least: float, most: int
) -> tuple[Point, int]:
    """Find a point that meets the strong Wolfe conditions, and count those that were computed.

    It is the lowest end of the interval if `most` points after the first have none that does, or if
    the interval gets shorter than `least`. `start` is the point at 0, of negative slope; t is the
    first distance.
    """
    previous, new = start, at(t)
    for i in range(most):
        if _is_high(new, start) or (i > 1 and new.value >= previous.value):
            break
        if abs(new.slope) <= -C2 * start.slope:
            return new, i + 1
        if new.slope >= 0:
            break
        bounds = new.t + 0.01 * (new.t - previous.t), 10 * new.t
        previous, new = new, at(_least_of_cubic(previous, new, bounds))
    else:
        return _lowest(start, new)[0], most + 1
    point, computed = _shrink(at, start, (previous, new), least=least, most=most - i)
    return point, computed + i + 1


def _shrink(
    at: Callable[[float], Point],
    start: Point,
    ends: tuple[Point, Point],
    *,
    least: float,
    most: int,
) -> tuple[Point, int]:
    low, high = _lowest(*ends)
    was_near_an_end = False
    for i in range(most):
        first, last = sorted((low.t, high.t))
        if last - first < least:
            return low, i
        t, margin = _least_of_cubic(low, high, (first, last)), 0.1 * (last - first)
        is_near = min(last - t, t - first) < margin
        # The second time in a row, or at the very end, the point moves away from the end.
        if is_near and (was_near_an_end or not first < t < last):
            t, is_near = (last - margin if last - t < t - first else first + margin), False
        was_near_an_end = is_near
        new = at(t)
        if _is_high(new, start) or new.value >= low.value:
            low, high = _lowest(low, new)
            continue
        if abs(new.slope) <= -C2 * start.slope:
            return new, i + 1
        if new.slope * (high.t - low.t) >= 0:
            high = low
        low = new
    return low, most


def _is_high(point: Point, start: Point) -> bool:
    """Return whether the loss has not fallen enough, or is not a number."""
    return not point.value <= start.value + C1 * point.t * start.slope


def _lowest(a: Point, b: Point) -> tuple[Point, Point]:
    return (b, a) if b.value < a.value else (a, b)


def _least_of_cubic(a: Point, b: Point, bounds: tuple[float, float]) -> float:
    """Find the least place of the cubic polynomial through two points; the middle if none."""
    a, b = (a, b) if a.t <= b.t else (b, a)
    mean = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
    square = mean**2 - a.slope * b.slope
    if not square >= 0:  # nor nan
        return sum(bounds) / 2
    rise = math.sqrt(square)
    divisor = b.slope - a.slope + 2 * rise
    if divisor == 0:
        return sum(bounds) / 2
    t = b.t - (b.t - a.t) * ((b.slope + rise - mean) / divisor)
    return min(max(t, bounds[0]), bounds[1])
