"""Whether gradients have the right values, in float64 where the function takes it.

There central differences of the function's own forward say what is right, or the autograd of a
reference. Other functions are held against a reference in float64: the allowed error is what their
dtype and the reference in that dtype make. Without one, differences in float32 see gross mistakes.
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
from lincoln_fn.testing.diagnosis import Finding, GradientError, Report, not_finite, short
from lincoln_fn.testing.explain import worst_place
from lincoln_fn.testing.functions.function import Function, RefusedError
from lincoln_fn.testing.oracles import error_of, least_slope, scales, size_of, steady_slope
from lincoln_fn.testing.point import DETACHED, is_plainly_right
from lincoln_fn.testing.point import by_differences as by_slopes
from lincoln_fn.testing.precision import Doubled
from lincoln_fn.testing.sample import Sample, perturbed, random_like, sample

# At other sizes, an error that changes y by no more than this part is none.
SLIGHT = 1e-6
# The x of a layer of a function: no gradient, and no label, as one of int64 would be.
_INTEGERS = torch.zeros((), dtype=torch.int32)


# Kernels may multiply with 11 bits, as tensor cores do.
OF_KERNELS = 1e-3
# So many roundings, and so many times the error of a reference in the same dtype, are allowed.
ROUNDINGS, TIMES = 16, 8
# What differences see: so large a part of the slope, with steps of these parts of the inputs.
COARSE, STEPS = 0.05, (1e-2, 2.5e-3)
DIRECTIONS = 9
# Differences need an eps below this.
FINE = 1e-6
# A gradient that differs by a smaller part from another is that one.
ALIKE = 0.01


@attrs.frozen(eq=False)
class Judge:
    """Judges values."""

    # A differentiable function of the same inputs; None takes f's own forward.
    reference: Callable[..., object] | None
    is_exact: bool  # whether f computes in float64

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
        said = self._said(f)
        at = _sample(f, said, key) if elsewhere else _sample(_joined(f), _joined(said), key)
        moved = perturbed(at, key) if elsewhere else None
        is_right = all(is_plainly_right(point, key, 1) for point in (at, moved) if point)
        if is_right or (not elsewhere and _is_slight(at, key)):
            return Report(f.name, tuple(Finding("", f.name, leaf, "right") for leaf in f.leaves))
        layer = layer_of(f, said) if self.reference else _followed(f, key)
        report = check_layer(layer, params_of(f), _INTEGERS, key=key, all=True)
        places = {leaf: n for n, leaf in enumerate(f.leaves)}
        found = sorted(report.findings, key=lambda each: places.get(plain(each.leaf), -1))
        findings = [attrs.evolve(f, leaf=plain(f.leaf), sentence=plain(f.sentence)) for f in found]
        known = DETACHED.partition("{}")[2]
        remarks = tuple(plain(remark) for remark in report.remarks if known not in remark)
        return Report(f.name, tuple(findings), remarks)


def referred(f: Function, reference: Callable[..., object]) -> Function:
    """Put a reference in a function's place; it returns the outputs that have a gradient."""
    return attrs.evolve(f, call=reference, outputs=tuple(range(len(f.outputs or ()))))


def is_derivative(f: Function, key: Key) -> bool:
    """Return whether no difference contradicts the gradients of a function in float64."""
    at = _sample(_joined(f), None, key)
    return by_slopes(at, 0, at.given[0], key) != "wrong"


def params_of(f: Function) -> dict[str, Tensor]:
    """List the inputs that get gradients, by name."""
    of_inputs: Any = {f.names[i]: f.inputs[i] for i in f.which}  # Any: of tensors
    return {name: value.detach() for name, value in of_inputs.items()}


def _sample(f: Function, of: Function | None, key: Key) -> Sample:
    return sample(Doubled().inside(layer_of(f, of)), params_of(f), _INTEGERS, key)


def _followed(f: Function, key: Key) -> Layer:
    """Make a layer whose forward autograd follows in operations, so that a mistake has a name.

    What autograd would find of f itself is what is judged. So f's forward is run alone, if it is
    known and autograd's gradients of it are right; else autograd sees nothing.
    """
    if f.forward is not None:
        alone = attrs.evolve(f, call=f.forward)
        with suppress(Exception):  # in any way: it was not written to be run alone
            at = _sample(_joined(f), _joined(alone), key)
            automatic = at.automatic
            if automatic and by_slopes(at, 0, automatic[0], key) == "right":
                return layer_of(f, alone)
    return layer_of(f)


def layer_of(f: Function, of: Function | None = None) -> Layer:
    """Make a layer whose backward is that of f, and whose forward is another's; None hides f's."""

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        y = (of or f).outputs_of(f.placed([each.clone() for each in params.values()]))
        return y if of else tuple(each.detach() for each in y), params

    def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        found = f.at(f.placed([*params.values()])).run().gradients(g)
        return None, dict(zip(params, found, strict=True))

    return Layer(f.name, forward, backward)


def _is_slight(at: Sample, key: Key) -> bool:
    """Return whether an error is small beside y, as where the terms of a norm cancel."""
    array = at.arrays[0]
    direction = random_like(array, key) * scales(array)
    slope, _ = steady_slope(at.forward, at.arrays, 0, direction, at.g)
    slight = least_slope([y.detach() for y in at.y], at.g, SLIGHT)
    return abs(float((at.given[0] * direction).sum()) - slope) <= slight


def _joined(f: Function) -> Function:
    """Put all inputs that get gradients into one, so that one direction in it tries all at once."""
    values = params_of(f).values()

    def call(vector: Tensor) -> object:
        parts = zip(torch.split(vector, [each.numel() for each in values]), values, strict=True)
        return f.call(*f.placed([part.clone().view(each.shape) for part, each in parts]))

    vector = torch.cat([each.flatten() for each in values])
    return attrs.evolve(f, call=call, inputs=(vector,), names=("x",), which=(0,), of_caller=1)


def plain(text: str) -> str:
    """Name inputs as the function does: dparams.w is dw, params.w is w."""
    text = text.replace(UNSEEN.sentence, UNSEEN.sentence.partition(";")[0])
    return re.sub(r"\bparams\.", "", re.sub(r"\bdparams\.(?=[A-Za-z_])", "d", text))


def by_reference(f: Function, of: Function, g: Sequence[Tensor], right: Sequence[Tensor]) -> Report:
    """Compare gradients with the right ones, and with a reference's in the same dtype."""
    given, errors = f.run().gradients(g), [0.0] * len(right)
    with suppress(RefusedError, GradientError):  # a reference may not take this dtype
        errors = list(map(error_of, of.run().gradients(g), right))
    largest, told = max(map(size_of, right)), []
    for a, b, error in zip(given, right, errors, strict=True):
        eps = torch.finfo(a.dtype).eps
        allowed = tolerance(a.dtype) * size_of(b) + eps * largest + TIMES * error
        told.append("" if error_of(a, b) <= allowed else _how(a.double(), b))
    return _report(f, told)


def by_differences(f: Function, key: Key) -> Report:
    """Compare gradients with differences of forward in its own dtype."""
    run = f.run()
    dtype = run.y[0].dtype
    if torch.finfo(dtype).eps > FINE:
        findings = tuple(Finding("", f.name, leaf, "not judged") for leaf in f.leaves)
        return Report(f.name, findings, (f"{short(dtype)} has too few digits: give a reference",))
    g, arrays = run.cotangent(key), [leaf.detach().double() for leaf in run.leaves]

    def forward(moved: Sequence[Tensor]) -> list[Tensor]:
        values = [new.to(leaf) for new, leaf in zip(moved, run.leaves, strict=True)]
        return [y.detach().double() for y in f.at(f.placed(values)).run().y]

    unseen = 4 * least_slope(forward(arrays), g, torch.finfo(dtype).eps / STEPS[-1])

    def ratio(given: Tensor, n: int, draw: Key) -> float | None:
        """Divide what a gradient says of a direction by differences; None if they agree."""
        drawn = keys.normal(draw.near(given), tuple(given.shape), dtype=torch.float64)
        direction = drawn * scales(arrays[n])
        slope, change = steady_slope(forward, arrays, n, direction, g, steps=STEPS)
        products = given.double() * direction
        said, size = float(products.sum()), max(abs(slope), float(products.abs().sum()))
        if abs(said - slope) <= COARSE * size + 4 * change + unseen:
            return None
        return said / slope if slope else float("inf")

    told = []
    for n, given in enumerate(run.gradients(g)):
        ratios = [ratio(given, n, draw) for draw in key.fold_in(n).split(DIRECTIONS)]
        wrong = [each for each in ratios if each is not None]
        # A wrong gradient agrees in some directions by chance, a right one not at a kink.
        if len(wrong) < DIRECTIONS // 3:
            told.append("")
            continue
        is_factor = max(wrong) - min(wrong) < COARSE * abs(min(wrong))
        how = f"is {min(wrong):.2g} times the derivative" if is_factor else "is wrong"
        told.append(not_finite(given) or how)
    remark = f"differences in {short(dtype)} see no mistake below 5 %: give a reference"
    return _report(f, told, remark)


def _report(f: Function, told: Sequence[str], *remarks: str) -> Report:
    """Make the report of what is told of each gradient; "" of a right one."""
    rows = enumerate(zip(f.leaves, told, strict=True))
    said = ((leaf, how and f"{leaf} {how}{f.look(n)}") for n, (leaf, how) in rows)
    return Report(f.name, tuple(finding_of(f, *each, "value") for each in said), remarks)


def finding_of(f: Function, what: str, told: str, name: str = "") -> Finding:
    """Make the finding of a gradient or a trial: what is told of it is wrong, if anything."""
    if not told:
        return Finding("", f.name, what, "right")
    return Finding("", f.name, what, "wrong", name or what, f"{f.name}: {told}")


def _how(given: Tensor, right: Tensor) -> str:
    if told := not_finite(given):
        return told
    if not (size := size_of(right)):
        return "should be 0"
    factor, alike = float((given * right).sum() / right.square().sum()), ALIKE * size_of(given)
    if error_of(given, factor * right) <= alike:
        return f"is {factor:.3g} times the derivative"
    if right.ndim == 2 and given.mT.shape == right.shape and error_of(given.mT, right) <= alike:
        return "is transposed"
    part = error_of(given, right) / size
    return f"is wrong, most at {[*worst_place(given, right)]}, by {part:.2g} of the largest value"


def tolerance(dtype: torch.dtype) -> float:
    """Return which error a right function of some dtype may have, in parts of the largest value."""
    return max(ROUNDINGS * torch.finfo(dtype).eps, OF_KERNELS)
