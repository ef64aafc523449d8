"""Solve z = f(z), by plain or by Anderson's iteration, for each example on its own.

With the residual r_k = f(z_k) - z_k, plain iteration takes z_(k+1) = f(z_k). Anderson's iteration
also looks at the last m steps, and at the differences between them, F_j = f(z_(j+1)) - f(z_j) and
R_j = r_(j+1) - r_j. It takes the combination whose residual is least, which is a small linear
system for each example:

    gamma minimises |r_k - sum_j gamma_j R_j|,    so (R R^T) gamma = R r_k
    z_(k+1) = f(z_k) - sum_j gamma_j F_j

For a linear f this is a restarted GMRES. An example is done when |r_k| <= tol |f(z_k)|, and is then
left as it is. So its result does not depend on the other examples.

Source: Anderson, "Iterative Procedures for Nonlinear Integral Equations", 1965; Walker and Ni,
"Anderson Acceleration for Fixed-Point Iterations", 2011.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import LayerError

Method: TypeAlias = Literal["anderson", "iteration"]
Rows: TypeAlias = Float[Tensor, "batch features"]


@attrs.frozen
class Solver:
    """How z = f(z) is solved; `fixed_point` explains the fields."""

    method: Method
    max_steps: int
    tol: float | None
    memory: int

    def solve(
        self,
        f: Callable[[Float[Tensor, "batch ..."]], Float[Tensor, "batch ..."]],
        z: Float[Tensor, "batch ..."],
        where: str,
    ) -> Float[Tensor, "batch ..."]:
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
        problem = f"|f(z) - z| = {size[example].item():.3g} |f(z)| in example {example}"
        mend = "raise max_steps or tol, or let the cell contract: the norm of dz'/dz below 1"
        steps = f"expected to converge in {self.max_steps} steps"
        return LayerError(where, f"{steps}, got {problem}; {mend}")


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
