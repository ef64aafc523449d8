"""Whether gradients have the right values: in float64, or in what the function takes.

In float64, central differences of the function's own forward say what is right, or the autograd of
a reference. A function without float64 is held against a reference in float64; the allowed error is
what its dtype and the reference in that dtype make. Without a reference, differences in float32
see only gross mistakes, and a remark says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, keys
from lincoln_fn.testing.check import check_layer
from lincoln_fn.testing.diagnosis import Finding
from lincoln_fn.testing.functions.function import Function
from lincoln_fn.testing.perturbed import perturbed
from lincoln_fn.testing.point import DETACHED, is_plainly_right
from lincoln_fn.testing.precision import Doubled
from lincoln_fn.testing.sample import sample

# By how much y of a function that computes in float64 changes, at most, from a reference's.
AGREEMENT = 1e-9
# Kernels may multiply with 11 bits, as tensor cores do.
OF_KERNELS = 1e-3
# So many roundings, and so many times the error of a reference in the same dtype, are allowed.
ROUNDINGS, TIMES = 16, 8
# What differences in float32 see, in parts of the slope.
COARSE = 0.05
_INTEGERS = torch.zeros((), dtype=torch.int64)


@attrs.frozen
class Judged:
    """The findings on the gradients' values, and remarks."""

    findings: tuple[Finding, ...]
    remarks: tuple[str, ...] = ()

    @property
    def mistakes(self) -> list[Finding]:
        """The findings that are wrong."""
        return [finding for finding in self.findings if finding.verdict == "wrong"]


@attrs.frozen(eq=False)
class Judge:
    """Judges values.

    Args:
        reference: a differentiable function of the same inputs; None takes f's own forward.
        is_exact: whether f computes in float64.
    """

    reference: Callable[..., object] | None
    is_exact: bool

    def of(self, f: Function, key: Key, *, elsewhere: bool = False) -> Judged:
        """Judge the gradients of a function where it is called, and `elsewhere`."""
        if self.is_exact:
            return self._exactly(f.in_dtype(torch.float64), key, elsewhere)
        if self.reference is not None:
            return self._by_reference(f, key)
        return by_coarse_differences(f, key)

    def truth(self, f: Function, g: Sequence[Tensor]) -> list[Tensor] | None:
        """Compute in float64 what is right; None if nothing says so but differences."""
        of = f if self.reference is None else referred(f, self.reference)
        if self.reference is None and not self.is_exact:
            return None
        return of.in_dtype(torch.float64).run().gradients([each.double() for each in g])

    def _exactly(self, f: Function, key: Key, elsewhere: bool) -> Judged:
        layer = layer_of(f, self.reference)
        params = {f.names[i]: f.inputs[i] for i in f.which}
        of = (layer, params) if elsewhere else _joined(layer, params)
        at = sample(Doubled().inside(of[0]), of[1], _INTEGERS, key)
        moved = perturbed(at, key) if elsewhere else None
        if all(is_plainly_right(point, key, 1) for point in (at, moved) if point):
            return Judged(tuple(Finding("", f.name, leaf, "right") for leaf in f.leaves))
        hidden = layer if self.reference else layer_of(f, None, hides=True)
        report = check_layer(hidden, params, _INTEGERS, key=key, all=True)
        findings = tuple(
            attrs.evolve(each, leaf=plain(each.leaf), sentence=plain(each.sentence))
            for each in report.findings
        )
        known = DETACHED.partition("{}")[2]
        return Judged(findings, tuple(plain(r) for r in report.remarks if known not in r))

    def _by_reference(self, f: Function, key: Key) -> Judged:
        assert self.reference is not None
        run = f.run()
        g = run.cotangent(key)
        given, right = run.gradients(g), self.truth(f, g)
        assert right is not None
        of = referred(f, self.reference)
        low = _or_none(lambda: of.run().gradients(g))
        findings = []
        for n, leaf in enumerate(f.leaves):
            error = _error(given[n], right[n])
            allowed = tolerance(given[n].dtype) * _size(right[n]) + 1e-30
            allowed += torch.finfo(given[n].dtype).eps * max(map(_size, right))
            if low is not None:
                allowed += TIMES * _error(low[n], right[n])
            findings.append(Finding("", f.name, leaf, "right"))
            if not error <= allowed:
                told = f"{f.name}: {leaf} {_how(given[n], right[n])}{f.look(f.which[n])}"
                findings[-1] = Finding("", f.name, leaf, "wrong", "value", told, error=error)
        return Judged(tuple(findings))


def by_coarse_differences(f: Function, key: Key) -> Judged:
    """Compare gradients with differences of forward in its own dtype."""
    run = f.run()
    eps = torch.finfo(run.y[0].dtype).eps
    if eps > 1e-6:
        findings = tuple(Finding("", f.name, leaf, "not judged") for leaf in f.leaves)
        told = f"{run.y[0].dtype} has too few digits for differences: give a reference"
        return Judged(findings, (told.removeprefix("torch."),))
    g = run.cotangent(key)
    given = run.gradients(g)
    findings_: list[Finding] = []
    for n, leaf in enumerate(f.leaves):
        ratios = [_ratio(f, run.leaves, g, given[n], n, key.fold_in(10 * n + k)) for k in range(2)]
        wrong = [ratio for ratio in ratios if ratio is not None]
        finding = Finding("", f.name, leaf, "right")
        if len(wrong) == len(ratios):
            is_factor = abs(wrong[0] - wrong[1]) < COARSE * abs(wrong[0])
            how = f"is {wrong[0]:.2g} times the derivative" if is_factor else "is wrong"
            told = f"{f.name}: {leaf} {how}{f.look(f.which[n])}"
            finding = Finding("", f.name, leaf, "wrong", "value", told)
        findings_.append(finding)
    told = f"differences in {run.y[0].dtype} see no mistake below 5 %: give a reference"
    return Judged(tuple(findings_), (told.replace("torch.", ""),))


def _ratio(
    f: Function,
    leaves: Sequence[Tensor],
    g: Sequence[Tensor],
    given: Tensor,
    n: int,
    key: Key,
) -> float | None:
    """Divide what a gradient says of a direction by differences; None if they agree."""
    direction = keys.normal(key.near(given), tuple(given.shape), dtype=torch.float64)
    direction = direction * leaves[n].detach().double().abs().clamp_min(1e-2)
    said = float((given.double() * direction).sum())
    slopes = []
    size = 0.0
    for step in (1e-2, 2.5e-3):
        ends = []
        for sign in (1, -1):
            moved = [leaf.detach() for leaf in leaves]
            moved[n] = (moved[n].double() + sign * step * direction).to(moved[n])
            ends.append(f.run(f.placed(moved)).y)
        rows = [(a.double() - b.double()) * c.double() for a, b, c in zip(*ends, g, strict=True)]
        slopes.append(sum(float(row.sum()) for row in rows) / (2 * step))
        size = sum(float((y * c).double().abs().sum()) for y, c in zip(ends[0], g, strict=True))
    noise = size * torch.finfo(given.dtype).eps / 2.5e-3
    unsure = 4 * abs(slopes[0] - slopes[1]) + 4 * noise
    scale = max(abs(slopes[1]), float((given.double() * direction).abs().sum()))
    if abs(said - slopes[1]) <= COARSE * scale + unsure:
        return None
    return said / slopes[1] if slopes[1] else float("inf")


def layer_of(
    f: Function, reference: Callable[..., object] | None = None, *, hides: bool = False
) -> Layer:
    """Make a layer whose backward is that of f, and whose forward is a reference's or f's own."""
    # `hides` keeps autograd from differentiating it: what it would find is what is judged.
    of = f if reference is None else referred(f, reference)

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        inputs = f.placed([each.clone() for each in _values(f, params)])
        y = of.outputs_of(inputs)
        return tuple(each.detach() for each in y) if hides else y, params

    def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        found = f.run(f.placed(_values(f, params))).gradients(g)
        return None, dict(zip(params, found, strict=True))

    return Layer(f.name, forward, backward)


def _joined(layer: Layer, params: dict[str, Tensor]) -> tuple[Layer, Params]:
    """Put all params into one vector, so that one direction in it tries all gradients at once."""

    def split(vector: Tensor) -> dict[str, Tensor]:
        parts = vector.split([each.numel() for each in params.values()])
        pairs = zip(params.items(), parts, strict=True)
        return {name: part.view(each.shape) for (name, each), part in pairs}

    def backward(vector: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        dx, grads = layer.backward(split(vector), cache, g)
        return dx, _vector(grads)

    forward = layer.forward
    joined = layer.replace(forward=lambda vector, x: forward(split(vector), x), backward=backward)
    return joined, _vector(params)


def _vector(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([each.flatten() for each in tensors.values()])


def referred(f: Function, reference: Callable[..., object]) -> Function:
    """Put a reference in a function's place; it returns the outputs that have a gradient."""
    return attrs.evolve(f, call=reference, outputs=tuple(range(len(f.outputs or ()))))


def error_of_y(f: Function, reference: Callable[..., object]) -> float:
    """Compute by how much y differs from a reference's, in parts of the largest value."""
    own, right = f.run().y, referred(f, reference).in_dtype(torch.float64).run().y
    if any(a.shape != b.shape for a, b in zip(own, right, strict=True)):
        return float("inf")
    return max(_error(a, b) / (_size(b) or 1.0) for a, b in zip(own, right, strict=True))


def other_y(f: Function, reference: Callable[..., object]) -> str:
    """Say by how much forward computes something else than a reference; "" if it does not."""
    error, dtype = error_of_y(f, reference), f.run().y[0].dtype
    if error <= tolerance(dtype):
        return ""
    return f"forward does not compute the reference's y: it differs by {error:.2g} of the largest"


def _values(f: Function, params: Params) -> list[Tensor]:
    return [params[f.names[i]] for i in f.which]


def plain(text: str) -> str:
    """Name inputs as the function does: dparams.w is dw, params.w is w."""
    return re.sub(r"\bparams\.", "", re.sub(r"\bdparams\.(?=[A-Za-z_])", "d", text))


def tolerance(dtype: torch.dtype) -> float:
    """Return which error a right function of some dtype may have, in parts of the largest value."""
    return max(ROUNDINGS * torch.finfo(dtype).eps, OF_KERNELS)


def _how(given: Tensor, right: Tensor) -> str:
    """Say how a gradient differs from the right one."""
    given = given.double()
    if not bool(given.isfinite().all()):
        return "holds values that are not finite"
    size = float((right * right).sum())
    factor = float((given * right).sum()) / size if size else 0.0
    if _error(given, factor * right) <= 0.01 * _size(given):
        if not _size(given):
            return "is 0, and should not be"
        return f"is {factor:.3g} times the derivative" if size else "should be 0"
    if right.ndim == 2 and right.shape[0] == right.shape[1] and _error(given.mT, right) <= 0.01 * (
        _size(right)
    ):
        return "is transposed"
    place = [int(i) for i in torch.unravel_index((given - right).abs().argmax(), given.shape)]
    part = _error(given, right) / (_size(right) or 1.0)
    return f"is wrong, most at {place}, by {part:.2g} of the largest value"


def _error(given: Tensor, right: Tensor) -> float:
    return _size(given.double() - right.double())


def _size(t: Tensor) -> float:
    return float(t.abs().max()) if t.numel() else 0.0


def _or_none(compute: Callable[[], list[Tensor]]) -> list[Tensor] | None:
    try:
        return compute()
    except Exception:  # a reference may not take this dtype
        return None
