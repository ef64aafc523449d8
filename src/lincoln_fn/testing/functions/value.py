"""Whether gradients have the right values, in float64 where the function takes it.

There central differences of the function's own forward say what is right, or the autograd of a
reference. Other functions are judged by `few_digits`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, keys
from lincoln_fn.testing.blame import UNSEEN
from lincoln_fn.testing.check import check_layer
from lincoln_fn.testing.diagnosis import Finding, Report
from lincoln_fn.testing.functions.few_digits import by_differences, by_reference
from lincoln_fn.testing.functions.function import Function, referred
from lincoln_fn.testing.oracles import scales, steady_slope
from lincoln_fn.testing.perturbed import perturbed
from lincoln_fn.testing.point import DETACHED, is_plainly_right
from lincoln_fn.testing.point import by_differences as by_slopes
from lincoln_fn.testing.precision import Doubled
from lincoln_fn.testing.sample import Sample, sample

# By how much y of a function that computes in float64 changes, at most, from a reference's.
AGREEMENT = 1e-9
# At other sizes, an error that changes y by no more than this part is none.
SLIGHT = 1e-6
_INTEGERS = torch.zeros((), dtype=torch.int64)


@attrs.frozen(eq=False)
class Judge:
    """Judges values.

    Args:
        reference: a differentiable function of the same inputs; None takes f's own forward.
        is_exact: whether f computes in float64.
    """

    reference: Callable[..., object] | None
    is_exact: bool

    def of(self, f: Function, key: Key, *, elsewhere: bool = False) -> Report:
        """Judge the gradients of a function where it is called, and `elsewhere`."""
        if self.is_exact:
            return self._exactly(f.in_dtype(torch.float64), key, elsewhere)
        if self.reference is None:
            return by_differences(f, key)
        g = f.run().cotangent(key)
        right = self.truth(f, g)
        assert right is not None
        return by_reference(f, self.reference, g, right)

    def truth(self, f: Function, g: Sequence[Tensor]) -> list[Tensor] | None:
        """Compute in float64 what is right; None if nothing says so but differences."""
        of = f if self.reference is None else referred(f, self.reference)
        if self.reference is None and not self.is_exact:
            return None
        return of.in_dtype(torch.float64).run().gradients([each.double() for each in g])

    def _exactly(self, f: Function, key: Key, elsewhere: bool) -> Report:
        layer, params = layer_of(f, self.reference), params_of(f)
        at = _sample(layer, params, key) if elsewhere else _sample(*_joined(layer, params), key)
        moved = perturbed(at, key) if elsewhere else None
        is_right = all(is_plainly_right(point, key, 1) for point in (at, moved) if point)
        if is_right or (not elsewhere and _is_slight(at, key)):
            return Report(f.name, tuple(Finding("", f.name, leaf, "right") for leaf in f.leaves))
        hidden = layer if self.reference else layer_of(f, hides=True)
        report = check_layer(hidden, params, _INTEGERS, key=key, all=True)
        findings = tuple(
            attrs.evolve(each, leaf=plain(each.leaf), sentence=plain(each.sentence))
            for each in report.findings
        )
        places = {leaf: n for n, leaf in enumerate(f.leaves)}
        findings = tuple(sorted(findings, key=lambda each: places.get(each.leaf, -1)))
        known = DETACHED.partition("{}")[2]
        return Report(f.name, findings, tuple(plain(r) for r in report.remarks if known not in r))


def is_derivative(f: Function, key: Key) -> bool:
    """Return whether no difference contradicts the gradients of a function in float64."""
    at = _sample(*_joined(layer_of(f, hides=True), params_of(f)), key)
    return by_slopes(at, 0, at.given[0], key) != "wrong"


def params_of(f: Function) -> dict[str, Tensor]:
    """List the inputs that get gradients, by name."""
    of_inputs: Any = {f.names[i]: f.inputs[i] for i in f.which}  # Any: of tensors
    return {name: value.detach() for name, value in of_inputs.items()}


def _sample(layer: Layer, params: Params, key: Key) -> Sample:
    return sample(Doubled().inside(layer), params, _INTEGERS, key)


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


def _is_slight(at: Sample, key: Key) -> bool:
    """Return whether an error is small beside y, as where the terms of a norm cancel."""
    array = at.arrays[0]
    direction = keys.normal(key.near(array), tuple(array.shape), dtype=array.dtype) * scales(array)
    slope, _ = steady_slope(at.forward, at.arrays, 0, direction, at.g)
    pairs = zip(at.y, at.g, strict=True)
    size = sum(float((y.detach() * g).abs().sum()) for y, g in pairs)
    return abs(float((at.given[0] * direction).sum()) - slope) <= SLIGHT * size


def _joined(layer: Layer, params: dict[str, Tensor]) -> tuple[Layer, Params]:
    """Put all params into one vector, so that one direction in it tries all gradients at once."""

    def split(vector: Tensor) -> dict[str, Tensor]:
        parts = torch.split(vector, [each.numel() for each in params.values()])
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


def _values(f: Function, params: Params) -> list[Tensor]:
    return [params[f.names[i]] for i in f.which]


def plain(text: str) -> str:
    """Name inputs as the function does: dparams.w is dw, params.w is w."""
    text = text.replace(UNSEEN.sentence, UNSEEN.sentence.partition(";")[0])
    return re.sub(r"\bparams\.", "", re.sub(r"\bdparams\.(?=[A-Za-z_])", "d", text))
