"""A layer whose output is the fixed point of a cell, found from zeros. A deep equilibrium model.

Derivation. At the fixed point z = f(x, z), with J = df / dz. For a small change of x,

    dz = J dz + (df)/(dx) dx,    so dz = (1 - J)^-1 (df)/(dx) dx

Then g^T dz = u^T (df)/(dx) dx with u^T = g^T (1 - J)^-1. So u is itself a fixed point:

    u = g + J^T u

J^T u is the cell's own `input_grad` of u. dx and "dparams" are those of one backward pass of the
cell, at the fixed point, with u in place of g.

Cache: x and z. The memory does not depend on the number of steps of the solver.

The solver. With the residual r_k = f(z_k) - z_k, plain iteration takes z_(k+1) = f(z_k). Anderson's
iteration also looks at the last m steps, and at the differences between them, F_j = f(z_(j+1)) -
f(z_j) and R_j = r_(j+1) - r_j. It takes the combination whose residual is least, which is a small
linear system for each example:

    gamma minimises |r_k - sum_j gamma_j R_j|,    so (R R^T) gamma = R r_k
    z_(k+1) = f(z_k) - sum_j gamma_j F_j

For a linear f this is a restarted GMRES. An example is done when |r_k| <= tol |f(z_k)|, and is then
left as it is. So its result does not depend on the other examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal, TypeAlias

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine._wiring import Kept, keep, with_states, wrong_output
from lincoln_fn.core import Arrays, Key, Layer, LayerError, NonNegative, Params, PositiveInt, tree
from lincoln_fn.walk.internal import Record, VisitBack, VisitThere, around

Method: TypeAlias = Literal["anderson", "iteration"]
Batch: TypeAlias = Float[Tensor, "batch ..."]
Rows: TypeAlias = Float[Tensor, "batch features"]
# Of z without the batch axis; None for that of x.
Shape: TypeAlias = Annotated[tuple[PositiveInt, ...], core.NOT_EMPTY] | None


def there(
    visit: VisitThere, params: Params, x: Arrays,
    *, solver: Solver, shape: Shape, predicts: bool = False,
) -> tuple[Tensor, Kept]:  # fmt: skip
    """Solve z = cell(x, z), and visit the cell there."""
    cell = visit.parts[0]

    def f(z: Tensor) -> Tensor:
        y = cell.predict(params, (x, z)) if predicts else cell.forward(params, (x, z))[0]
        if not isinstance(y, Tensor) or y.shape != z.shape:
            raise wrong_output(visit, 0, f"its output to be like z, {core.format_briefly(z)}", y)
        return y

    z = solver.solve(f, _first(x, shape), visit.label)
    y, record = visit(0, params, (x, z))
    return y, keep(visit, (x, z), params, record)


def back(
    visit: VisitBack, params: Params, cache: Kept, g: Batch, *, solver: Solver
) -> tuple[Arrays, Record]:
    """Solve u = g + J^T u, and visit the cell with u in place of g."""
    core.check_cache(visit.label, cache, Kept)
    cell, (_, z) = visit.parts[0], cache.arrays
    core.check_cotangent(visit.label, g, z)
    again = cell.forward(params, cache.arrays)[1]

    def f(u: Tensor) -> Tensor:
        through: Tensor = cell.input_grad(params, again, u)[1]
        return g + through

    u = solver.solve(f, g, f"{visit.label}: backward")
    dx, record = visit(0, params, again, u)
    return None if dx is None else dx[0], record


def _first(x: Arrays, shape: Shape) -> Tensor:
    """Return the z to begin with, zeros."""
    leaves = tree.leaves(x)
    if not leaves or not isinstance(leaves[0], Tensor):
        raise core.wrong_kind("fixed_point", "x", x, "tensor")
    like = leaves[0]
    if like.ndim < 2 and shape is None:
        raise core.unexpected("fixed_point", "x with a batch axis and more", like.shape)
    dtype = like.dtype if like.is_floating_point() else torch.get_default_dtype()
    return like.new_zeros(like.shape if shape is None else (len(like), *shape), dtype=dtype)


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays, *, shape: Shape) -> Params:
    return parts[0].init(key, (x, _first(x, shape)))


@core.constructor
def fixed_point(
    cell: Layer,
    *,
    shape: Shape = None,
    solver: Method = "anderson",
    max_steps: PositiveInt = 40,
    tol: NonNegative | None = None,
    memory: PositiveInt = 5,
) -> Layer:
    """Make a layer whose output is the fixed point of a cell: z = cell((x, z)).

    The backward pass solves u = g + J^T u, with J = dz'/dz of the cell, and needs the memory of one
    evaluation of the cell. The first axis of x and of z is the batch, and each example is solved
    for itself. Dropout draws one mask for all steps of the solver. In a compiled step, all
    max_steps steps are taken, in both passes, so choose few. The params are the cell's own.

    Args:
        cell: a layer from (x, z) to the next z, of the shape of z, such as `rnn_cell`. Its steps
            have to come closer to each other: plain iteration converges if dz'/dz has a norm below
            1, Anderson's iteration often if it has one of more.
        shape: of z without the batch, such as (32,). None for that of x, or of x's first tensor.
        solver: "anderson", or "iteration" for z' = cell((x, z)) again and again.
        max_steps: the largest number of steps in each pass.
        tol: an example is done if |z' - z| <= tol |z'|. None is 64 times the rounding error of the
            dtype: 8e-6 in float32, 1e-14 in float64. 0 takes exactly max_steps steps, and an
            example that does not converge is no error.
        memory: the number of differences between steps that Anderson's iteration uses.

    Raises:
        LayerError: from its functions, if an example does not converge. In a compiled step such an
            example makes the loss nan, and then the step raises the error.

    Source:
        Bai, Kolter and Koltun, "Deep Equilibrium Models", 2019; Anderson, "Iterative Procedures for
        Nonlinear Integral Equations", 1965; Walker and Ni, "Anderson Acceleration for Fixed-Point
        Iterations", 2011.

    Example:
        >>> net, x = fixed_point(lf.rnn_cell(3), shape=(3,)), torch.ones(2, 4)
        >>> params = net.init(lf.Key(0), x)
        >>> z = net.predict(params, x)
        >>> torch.allclose(z, lf.rnn_cell(3).predict(params, (x, z)), atol=1e-5)
        True
    """
    chosen = Solver(solver, max_steps, tol, memory)
    loop, loop_back = partial(there, solver=chosen), partial(back, solver=chosen)
    return core.bare(
        partial(around, part=cell, mask="lost"), there=loop, back=loop_back,
        predict=partial(loop, predicts=True), init=_init, advance=with_states,
    )  # fmt: skip


@attrs.frozen
class Solver:
    """How z = f(z) is solved; `fixed_point` explains the fields."""

    method: Method
    max_steps: int
    tol: float | None
    memory: int

    def solve(self, f: Callable[[Batch], Batch], z: Batch, where: str) -> Batch:
        """Solve z = f(z), from a first z; raise an error if an example does not converge."""
        # Where no number can be read, as in a compiled step, all steps are taken, and such an
        # example becomes nan.
        if z.is_meta:
            return z
        tol = 64 * torch.finfo(z.dtype).eps if self.tol is None else self.tol
        x = z.flatten(1)  # an example in each row
        done = torch.zeros(len(x), 1, dtype=torch.bool, device=x.device)
        newest: tuple[Rows, Rows] | None = None
        differences: list[tuple[Rows, Rows]] = []
        for _ in range(self.max_steps):
            value = f(x.view(z.shape)).flatten(1)
            residual = value - x
            if newest is not None and self.method == "anderson":
                changes = value - newest[0], residual - newest[1]
                differences = [*differences, changes][-self.memory :]
            newest = value, residual
            x = torch.where(done, x, _combine(value, residual, differences))
            size = residual.norm(dim=1, keepdim=True)
            done = done | (size <= tol * value.norm(dim=1, keepdim=True))
            if tol and _is_true(done.all()):
                return x.view(z.shape)
        if tol and _is_true(~done.all()):
            raise self._convergence_error(where, size / value.norm(dim=1, keepdim=True))
        return (torch.where(done, x, torch.nan) if tol else x).view(z.shape)

    def _convergence_error(self, where: str, size: Float[Tensor, "batch 1"]) -> LayerError:
        example = int(size.nan_to_num(torch.inf).argmax())
        mend = "raise max_steps or tol, or let the cell contract: the norm of dz'/dz below 1"
        got = f"|f(z) - z| = {size[example].item():.3g} |f(z)| in example {example}"
        return core.unexpected(where, f"to converge in {self.max_steps} steps", got, mend)


def _combine(value: Rows, residual: Rows, differences: Sequence[tuple[Rows, Rows]]) -> Rows:
    """Compute z_(k+1) = f(z_k) - sum_j gamma_j F_j from the differences (F_j, R_j)."""
    if not differences:
        return value
    values, residuals = (torch.stack(each, 1) for each in zip(*differences, strict=True))
    gamma = _least_squares(residuals, residual).to(value.dtype)
    return value - (gamma.unsqueeze(1) @ values).squeeze(1)


def _least_squares(
    rows: Float[Tensor, "batch memory features"], target: Rows
) -> Float[Tensor, "batch memory"]:
    """Compute the gamma that minimises |target - sum_j gamma_j rows_j|."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    norms = rows.to(wide).norm(dim=2, keepdim=True)
    norms = torch.where(norms > 0, norms, 1)
    units = rows.to(wide) / norms
    # A little is added to the diagonal, for rows that are nearly parallel, or zero.
    ridge = torch.finfo(wide).eps ** 0.5 * torch.eye(rows.shape[1], dtype=wide, device=rows.device)
    found, _ = torch.linalg.solve_ex(units @ units.mT + ridge, units @ target.to(wide).unsqueeze(2))
    gamma: Tensor = found / norms
    return gamma.squeeze(2)


def _is_true(value: Tensor) -> bool:
    """Return whether a tensor is True; False where no number can be read."""
    try:
        return bool(value)
    except RuntimeError:  # while a step is traced, or a function is mapped over
        return False
