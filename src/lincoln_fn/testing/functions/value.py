"""Whether gradients have the right values, in float64 where the function takes it.

There central differences of the function's own forward say what is right, or the autograd of a
reference. Other functions are judged by `few_digits`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, keys
from lincoln_fn.testing.blame import UNSEEN
from lincoln_fn.testing.check import check_layer
from lincoln_fn.testing.diagnosis import Finding, Report
from lincoln_fn.testing.functions.few_digits import by_differences, by_reference
from lincoln_fn.testing.functions.function import Function
from lincoln_fn.testing.oracles import scales, steady_slope
from lincoln_fn.testing.perturbed import perturbed
from lincoln_fn.testing.point import DETACHED, is_plainly_right
from lincoln_fn.testing.point import by_differences as by_slopes
from lincoln_fn.testing.precision import Doubled
from lincoln_fn.testing.sample import Sample, sample

# At other sizes, an error that changes y by no more than this part is none.
SLIGHT = 1e-6
# The x of a layer of a function: no gradient, and no label, as one of int64 would be.
_INTEGERS = torch.zeros((), dtype=torch.int32)


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
        g = f.run().cotangent(key)
        right = self.truth(f, g)
        return by_reference(f, self._said(f), g, right) if right else by_differences(f, key)

    def truth(self, f: Function, g: Sequence[Tensor]) -> list[Tensor] | None:
        """Compute in float64 what is right; None if nothing says so but differences."""
        if self.reference is None and not self.is_exact:
            return None
        return self._said(f).in_dtype(torch.float64).run().gradients([each.double() for each in g])

    def _said(self, f: Function) -> Function:
        return f if self.reference is None else referred(f, self.reference)

    def _exactly(self, f: Function, key: Key, elsewhere: bool) -> Report:
        layer, params = layer_of(f, self._said(f)), params_of(f)
        at = _sample(layer, params, key) if elsewhere else _sample(*_joined(layer, params), key)
        moved = perturbed(at, key) if elsewhere else None
        is_right = all(is_plainly_right(point, key, 1) for point in (at, moved) if point)
        if is_right or (not elsewhere and _is_slight(at, key)):
            return Report(f.name, tuple(Finding("", f.name, leaf, "right") for leaf in f.leaves))
        layer = layer if self.reference else _followed(f, key)
        report = check_layer(layer, params, _INTEGERS, key=key, all=True)
        places = {leaf: n for n, leaf in enumerate(f.leaves)}
        findings = [
            attrs.evolve(each, leaf=plain(each.leaf), sentence=plain(each.sentence))
            for each in report.findings
        ]
        findings.sort(key=lambda each: places.get(each.leaf, -1))
        known = DETACHED.partition("{}")[2]
        remarks = tuple(plain(remark) for remark in report.remarks if known not in remark)
        return Report(f.name, tuple(findings), remarks)


def referred(f: Function, reference: Callable[..., object]) -> Function:
    """Put a reference in a function's place; it returns the outputs that have a gradient."""
    return attrs.evolve(f, call=reference, outputs=tuple(range(len(f.outputs or ()))))


def is_derivative(f: Function, key: Key) -> bool:
    """Return whether no difference contradicts the gradients of a function in float64."""
    at = _sample(*_joined(layer_of(f), params_of(f)), key)
    return by_slopes(at, 0, at.given[0], key) != "wrong"


def params_of(f: Function) -> dict[str, Tensor]:
    """List the inputs that get gradients, by name."""
    of_inputs: Any = {f.names[i]: f.inputs[i] for i in f.which}  # Any: of tensors
    return {name: value.detach() for name, value in of_inputs.items()}


def _sample(layer: Layer, params: Params, key: Key) -> Sample:
    return sample(Doubled().inside(layer), params, _INTEGERS, key)


def _followed(f: Function, key: Key) -> Layer:
    """Make a layer whose forward autograd follows in operations, so that a mistake has a name.

    What autograd would find of f itself is what is judged. So f's forward is run alone, if it is
    known and autograd's gradients of it are right; else autograd sees nothing.
    """
    if f.forward is not None:
        layer = layer_of(f, attrs.evolve(f, call=f.forward))
        with suppress(Exception):  # in any way: it was not written to be run alone
            at = _sample(*_joined(layer, params_of(f)), key)
            automatic = at.automatic
            if automatic and by_slopes(at, 0, automatic[0], key) == "right":
                return layer
    return layer_of(f)


def layer_of(f: Function, of: Function | None = None) -> Layer:
    """Make a layer whose backward is that of f, and whose forward is another's; None hides f's."""

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        y = (of or f).outputs_of(f.placed([each.clone() for each in _values(f, params)]))
        return y if of else tuple(each.detach() for each in y), params

    def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        found = f.at(f.placed(_values(f, params))).run().gradients(g)
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
