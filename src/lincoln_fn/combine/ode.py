"""A layer that follows a vector field through time, in equal steps: dz/dt = field(z). A neural ODE.

A step from z at time t by h evaluates the field f at some stages i, and adds up:

    k_i = f(t + c_i h, z + h sum_(j<i) a_ij k_j)
    z' = z + h sum_i b_i k_i

Derivation, discrete. With g the gradient of z', and l_i the gradient that stage i returns for its
input when it is given dk_i for k_i, from the last stage to the first:

    dk_i = h b_i g + h sum_(j>i) a_ji l_j
    dz = g + sum_i l_i

It is the exact gradient of what forward computes. The field's parameters enter every evaluation:

    "dparams" = sum_i "dparams"_i

Derivation, continuous. Let a(t) be the gradient of the loss by z(t). From t to t + h, z(t + h) =
z + h f(z), so a(t) = a(t + h) + h (df / dz)^T a(t + h). As h goes to 0,

    (da)/(dt) = -((df)/(dz))^T a
    (dz)/(dt) = f(z)
    (d "dparams")/(dt) = -((df)/(d"params"))^T a

The three are followed from t_1 back to t_0, from z(t_1), a(t_1) = g and "dparams" = 0. Then
dx = a(t_0). Both z and the gradient differ from the forward steps' by an error of the method.

Cache, discrete: the caches of all evaluations. Continuous: z(t_1).

Source: Hairer, Nørsett and Wanner, "Solving Ordinary Differential Equations I", 1993, chapter II.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine import _wiring
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, PositiveInt, tree
from lincoln_fn.walk import ITS_PART, VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import Record

Method: TypeAlias = Literal["euler", "midpoint", "rk4"]
R = TypeVar("R")


class Tableau(NamedTuple):
    """The coefficients of a method."""

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]


TABLEAUS: Final = {
    "euler": Tableau(((),), (1,), (0,)),
    "midpoint": Tableau(((), (1 / 2,)), (0, 1), (0, 1 / 2)),
    "rk4": Tableau(
        ((), (1 / 2,), (0, 1 / 2), (0, 0, 1)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
        (0, 1 / 2, 1 / 2, 1),
    ),
}


def add_scaled(z: Arrays, h: float, weights: Sequence[float], ks: Sequence[Arrays]) -> Arrays:
    """Compute z + h sum_i w_i k_i."""
    used = [(h * w, k) for w, k in zip(weights, ks, strict=True) if w]

    def add(leaf: Tensor, *slopes: Tensor) -> Tensor:
        for (w, _), slope in zip(used, slopes, strict=True):
            leaf = leaf + w * slope
        return leaf

    return tree.map(add, z, *(k for _, k in used))


def step(
    tableau: Tableau,
    field: Callable[[int, float, Arrays], tuple[Arrays, R]],
    t: float,
    z: Arrays,
    h: float,
) -> tuple[Arrays, tuple[R, ...]]:
    """Take one step; return z' and the record of each stage."""
    ks: list[Arrays] = []
    records = []
    for i, (row, c) in enumerate(zip(tableau.a, tableau.c, strict=True)):
        k, record = field(i, t + c * h, add_scaled(z, h, row, ks))
        ks.append(k)
        records.append(record)
    return add_scaled(z, h, tableau.b, ks), tuple(records)


def step_backward(
    tableau: Tableau, stage_backward: Callable[[int, Arrays], Arrays], g: Arrays, h: float
) -> Arrays:
    """Compute dz of one step."""
    zero = tree.map(lambda leaf: leaf.new_zeros(()).expand(leaf.shape), g)
    count = len(tableau.b)
    ls: list[Arrays] = [zero] * count
    for i in reversed(range(count)):
        later = [tableau.a[j][i] for j in range(i + 1, count)]
        dk = add_scaled(zero, h, [tableau.b[i], *later], [g, *ls[i + 1 :]])
        ls[i] = stage_backward(i, dk)
    return add_scaled(g, 1, (1,) * count, ls)


Adjoint: TypeAlias = Literal["discrete", "continuous"]


@attrs.frozen
class Times:
    """The steps from t_0 to t_1; `ode` explains the fields."""

    t: tuple[float, float]
    method: Method
    steps: int
    time_dim: int | None

    @property
    def h(self) -> float:
        """The length of a step."""
        return (self.t[1] - self.t[0]) / self.steps

    @property
    def tableau(self) -> Tableau:
        """The coefficients of the method."""
        return TABLEAUS[self.method]

    def input(self, t: float, z: Arrays) -> Arrays:
        """Return what the field gets: z, or (z, t)."""
        if self.time_dim is None:
            return z
        like: Tensor = tree.leaves(z)[0]
        core.check_axis("ode", like, self.time_dim)
        return z, torch.full_like(like.narrow(self.time_dim, 0, 1), t)

    def through(self, dx: Arrays) -> Arrays:
        """Return the part of the field's dx that belongs to z."""
        return dx if self.time_dim is None else dx[0]


def _there(visit: VisitThere, params: Params, x: Arrays, *, times: Times) -> tuple[Arrays, Record]:
    """Take all steps; the records are those of each stage of each step."""
    records = []
    for x, record in _steps(visit, params, x, times):
        records.append(record)
    return x, tuple(records)


def back(
    visit: VisitBack, params: Params, cache: Cache, g: Arrays, *, times: Times
) -> tuple[Arrays, Record]:
    """Compute dz of each step, from the last to the first."""
    check_entries(visit.label, "the cache", cache, times.steps)
    records: tuple[Record, ...] = ()
    for n in reversed(range(times.steps)):
        stages = cache[n]

        def stage(i: int, dk: Arrays, stages: Cache = stages) -> Arrays:
            nonlocal records
            dx, record = visit(0, params, stages[i], dk)
            records = visit.add(record, records)
            return times.through(dx)

        g = step_backward(times.tableau, stage, g, times.h)
    return g, records


def _advance(visit: VisitThere, params: Params, cache: Cache) -> Params:
    return visit.advance(0, params, cache[-1][-1])


def _there_continuous(
    visit: VisitThere, params: Params, x: Arrays, *, times: Times
) -> tuple[Arrays, _wiring.Kept]:
    for x, record in _steps(visit, params, x, times):
        last = record[-1]
    return x, _wiring.keep(visit, x, params, last)


def back_continuous(
    visit: VisitBack, params: Params, cache: _wiring.Kept, g: Arrays, *, times: Times
) -> tuple[Arrays, Record]:
    """Follow z and a from t_1 back to t_0, and visit the field at each stage."""
    core.check_cache(visit.label, cache, _wiring.Kept)
    _wiring.check_mirrors(visit.label, g, cache.arrays)
    field = visit.parts[0]
    records: tuple[Record, ...] = ()

    def slope(i: int, t: float, state: Arrays) -> tuple[Arrays, None]:
        nonlocal records
        z, a = state
        k, again = field.forward(params, times.input(t, z))
        weight = times.h * times.tableau.b[i]
        if weight:
            # The sum of all dparams is the integral, so a has the weight of its stage.
            dx, record = visit(0, params, again, tree.map(lambda leaf: weight * leaf, a))
            records = visit.add(record, records)
            da = tree.map(lambda leaf: -leaf / weight, times.through(dx))
        else:
            da = tree.map(torch.neg, times.through(field.input_grad(params, again, a)))
        return (k, da), None

    state = (cache.arrays, g)
    for n in range(times.steps):
        state, _ = step(times.tableau, slope, times.t[1] - n * times.h, state, -times.h)
    return state[1], records


def _steps(
    visit: VisitThere, params: Params, x: Arrays, times: Times
) -> Iterator[tuple[Arrays, tuple[Record, ...]]]:
    """Yield z after each step, with the records of the step's stages."""
    leaves = tree.leaves(x)
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        raise core.wrong_kind(visit.label, "x", x, "tensor")

    def field(i: int, t: float, z: Arrays) -> tuple[Arrays, Record]:
        k, record = visit(0, params, times.input(t, z))
        if _shapes(k) != _shapes(z):
            raise _wiring.wrong_output(
                visit, 0, f"its output to be like z, {core.format_briefly(z)}", k
            )
        return k, record

    for n in range(times.steps):
        x, records = step(times.tableau, field, times.t[0] + n * times.h, x, times.h)
        yield x, records


def _shapes(arrays: Arrays) -> list[tuple[str, torch.Size]]:
    return [(name, leaf.shape) for name, leaf in core.named_leaves(arrays)]


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays, *, times: Times) -> Params:
    return parts[0].init(key, times.input(times.t[0], x))


@core.constructor
def ode(
    field: Layer,
    t: tuple[float, float] = (0.0, 1.0),
    *,
    method: Method = "rk4",
    steps: PositiveInt = 10,
    adjoint: Adjoint = "discrete",
    time_dim: int | None = None,
) -> Layer:
    """Make a layer that follows a vector field through time: dz/dt = field(z), from x to z(t_1).

    The params are the field's own, the same at all times. Its state, such as the key of dropout,
    stays the same on the way, and advances once.

    Args:
        field: a layer from z to dz/dt, of the shape of z. z is a tensor or a tuple of tensors.
        t: the times of x and of y, (t_0, t_1). t_1 may be the earlier one.
        method: "euler" (error h), "midpoint" (h^2) or "rk4" (h^4), with steps of length h. They
            evaluate the field once, twice and four times per step.
        adjoint: "discrete" for the exact gradient of the steps; the memory grows with their number.
            "continuous" follows z and the gradient from t_1 back to t_0: the memory is that of one
            step, and the gradient has an error like that of z.
        time_dim: the axis of z in which the field gets the time: then its input is (z, t), where t
            has z's shape and size 1 in this axis, as `concatenate(time_dim)` takes them. None for a
            field that does not depend on time.

    Source:
        Chen, Rubanova, Bettencourt and Duvenaud, "Neural Ordinary Differential Equations", 2018.

    Example:
        >>> growth = lf.identity()  # dz/dt = z, so z(1) = e z(0)
        >>> ode(growth, steps=4).predict((), torch.ones(2))
        tensor([2.7182, 2.7182])
    """
    core.require(t[0] != t[1], "ode", "two different times t", t)
    times = Times(t, method, steps, time_dim)
    discrete = _there, back, _advance
    continuous = _there_continuous, back_continuous, _wiring.with_states
    there, loop_back, advance = discrete if adjoint == "discrete" else continuous
    loop, loop_back, init = (partial(f, times=times) for f in (there, loop_back, _init))
    return core.bare(
        partial(composition, parts=(field,), arrange=ITS_PART), there=loop, back=loop_back,
        gather=_wiring.gather_uses, init=init, advance=advance,
    )  # fmt: skip
