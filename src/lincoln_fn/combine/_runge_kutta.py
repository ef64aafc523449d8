"""Explicit Runge-Kutta methods, and the gradient of one step.

A step from z at time t by h evaluates the field f at some stages i, and adds up:

    k_i = f(t + c_i h, z + h sum_(j<i) a_ij k_j)
    z' = z + h sum_i b_i k_i

Derivation. With g the gradient of z', and l_i the gradient that stage i returns for its input when
it is given dk_i for k_i, from the last stage to the first:

    dk_i = h b_i g + h sum_(j>i) a_ji l_j
    dz = g + sum_i l_i

Source: Hairer, Nørsett and Wanner, "Solving Ordinary Differential Equations I", 1993, chapter II.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

from torch import Tensor

from lincoln_fn.core import Arrays, tree

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
