"""Shared by all losses: the checks of their arguments, and the reduction of many values to one.

A loss's file computes a value l_i for each example (or element), and its gradient. `reduction`
combines them, with n_i the number of values, or the loss's own count, such as of class weights:

    "none":  value = l                    dl_i = g_i
    "sum":   value = sum_i l_i            dl_i = g
    "mean":  value = sum_i l_i / n_i      dl_i = g / n_i
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Spec, bare, check_cache, record, static, unexpected
from lincoln_fn.losses.common.checks import check_same_shape
from lincoln_fn.losses.loss import Loss

# A logarithm's argument is clamped to float32's smallest normal number, in every dtype, so that
# p = 0 gives the same finite loss, 87.3, and a finite gradient in every dtype.
SMALLEST: Final = 2.0**-126

# dL/dl: a number, or a tensor of shape () or of l's shape.
Cotangent: TypeAlias = Tensor | float
# A cache of tensors, in the order that the loss's page says.
Tensors: TypeAlias = tuple[Tensor, ...]
Check: TypeAlias = Callable[[Arrays, Arrays], None]
# The two functions of a loss, and their hyperparameters by keyword.
There: TypeAlias = Callable[..., tuple[Tensor, Cache]]
Back: TypeAlias = Callable[..., Arrays]


def number_of_values(cache: Cache) -> None:
    """Divide a mean by the number of values."""
    return


@attrs.frozen(eq=False)
class Formula:
    """A loss before its reduction: forward returns (l, cache), and backward takes (cache, dl)."""

    name: str
    reduction: str  # one that the loss supports; all except sum and none are means
    forward: Callable[[Arrays, Arrays], tuple[Tensor, Cache]]
    backward: Callable[[Cache, Cotangent], Arrays]
    # n, of shape () or of l's shape; None for the number of values.
    count: Callable[[Cache], Tensor | None] = number_of_values
    # The names of the prediction's tensors; without any, `forward` checks what it is given.
    inputs: tuple[str, ...] = ("prediction",)
    targets: tuple[str, ...] = ("target",)  # likewise; without any, the target is None
    # By the name of a tensor, the name of that whose shape it has.
    like: Mapping[str, str] = attrs.field(factory=dict)
    # Likewise of booleans. One that is no target's name may follow the targets.
    masks: Mapping[str, str] = attrs.field(factory=dict)
    # (name of the loss, target, first input) -> the target that `forward` gets, checked.
    reads: Callable[[str, Tensor, Tensor], Tensor] | None = None
    check: Check | None = None  # refuses values, after all else
    # Likewise, for the first batch of a step.
    check_first: Check | None = attrs.field(
        default=attrs.Factory(lambda formula: formula.check, takes_self=True)
    )
    mixes_examples: bool | None = False  # None if it is not known
    spec: Spec | None = None

    @property
    def is_mean(self) -> bool:
        """Whether the loss is a mean, which is divided by the count."""
        return self.reduction not in ("sum", "none")

    def reduced(self, prediction: Arrays, target: Arrays) -> tuple[Tensor, ReducedCache]:
        """Compute the values, and reduce them."""
        read = target
        if self.inputs:
            first = _check_given(self, prediction, target)
            read = target if self.reads is None else self.reads(self.name, target, first)
        values, of_formula = self.forward(prediction, read)
        n = self.count(of_formula) if self.is_mean else None
        cache = ReducedCache(of_formula, n, tuple(values.shape), self.name)
        if self.check is not None:
            self.check(prediction, target)
        if self.is_mean:
            # n may be wider than l, for a number of values that l's dtype cannot have.
            return values.mean() if n is None else (values / n).sum().to(values.dtype), cache
        return values.sum() if self.reduction == "sum" else values, cache

    def reduced_back(self, cache: ReducedCache, g: Cotangent = 1.0) -> Arrays:
        """Undo the reduction, and compute the gradient of the prediction."""
        check_cache(self.name, cache, ReducedCache)
        if cache.loss != self.name:
            expected = "the cache of its own forward"
            raise core.unexpected(self.name, expected, f"that of {cache.loss}")
        shape = cache.shape if self.reduction == "none" else ()
        if isinstance(g, Tensor) and g.shape != shape:
            raise unexpected(self.name, f"g of shape {shape}", g.shape)
        if not self.is_mean:
            return self.backward(cache.formula, g)
        n = math.prod(cache.shape) if cache.n is None else cache.n
        return self.backward(cache.formula, g / n)


@record
class ReducedCache:
    """The formula's cache, n of a mean (None for the number of values), l's shape, the loss."""

    formula: Cache
    n: Tensor | None
    shape: tuple[int, ...] = static()
    loss: str = static()


# Any: fields of `Formula`.
def make_loss(forward: There, backward: Back, **form: Any) -> Loss:
    """Make a loss from the fields of its formula; `constructor` adds its name and its options.

    The reduction is the constructor's own, unless it is given. Checks get the loss's name and what
    to `mend`, before what `Formula` says. A count may take the `name`. Weights are copied.
    """

    def make(call: Spec, forward: There, backward: Back, *, mend: str = "", **form: Any) -> Loss:
        name, reduction = call.of.__name__, form.pop("reduction", call.arguments.get("reduction"))
        for key in form.keys() & {"check", "check_first"}:
            form[key] = partial(form[key], name, mend)
        if own := core.asked_of(form.get("count", number_of_values), {"name": name}):
            form["count"] = partial(form["count"], **own)
        given = core.arguments_of(forward).items()
        copies = {key: value.clone() for key, value in given if isinstance(value, Tensor)}
        forward = partial(forward, **copies) if copies else forward
        return loss_of(call, Formula(name, reduction, forward, backward, spec=call, **form))

    return bare(make, forward, backward, **form)


def loss_of(name: str, formula: Formula) -> Loss:
    """Make the loss of a formula."""
    mixes = formula.mixes_examples
    if not mixes and formula.is_mean and formula.count is not number_of_values:
        mixes = None  # it may divide by a number of all targets
    return Loss(name, formula.reduced, formula.reduced_back, mixes)


def formula_of(loss: Loss) -> Formula | None:
    """Return the formula of a loss that `loss_of` has made; None if a function is a user's own."""
    formula, other = (getattr(each, "__self__", None) for each in (loss.forward, loss.backward))
    return formula if isinstance(formula, Formula) and formula is other else None


def _check_given(formula: Formula, prediction: Arrays, target: Arrays) -> Tensor:
    name, inputs, targets = formula.name, formula.inputs, formula.targets
    predicted = _listed(name, "prediction", inputs, prediction)
    optional = tuple(mask for mask in formula.masks if mask not in targets)
    labels = _listed(name, "target", targets, target, optional)
    for what, given in (*predicted, *labels):
        if not isinstance(given, Tensor):
            raise core.wrong_kind(name, what, given, "tensor")
        # One of several target tensors may be empty: sequences without a label, to ctc.
        if given.numel() == 0 and (what in inputs or len(targets) == 1):
            shape = tuple(given.shape)
            raise unexpected(name, "at least one example", f"{what} of shape {shape}")
    what, first = predicted[0]
    if not first.is_floating_point():
        raise unexpected(name, f"{what} of a floating dtype", first.dtype)
    for what, given in predicted[1:]:
        core.check_like(name, what, given, first)
    for what, given in labels:
        if given.device != first.device:
            raise unexpected(name, f"{what} on {first.device}", given.device)
        if what in formula.masks and given.dtype is not torch.bool:
            raise core.unexpected(name, f"{what} of booleans", given.dtype, f"write {what} > 0")
    of_names = dict((*predicted, *labels))
    for what, other in {**formula.like, **formula.masks}.items():
        if what in of_names:
            check_same_shape(name, what, of_names[what], other, of_names[other])
    return first


def _listed(
    name: str, what: str, names: tuple[str, ...], given: Arrays, optional: tuple[str, ...] = ()
) -> list[tuple[str, Tensor]]:
    if len(names) == 1 and not (optional and isinstance(given, tuple)):
        return [(names[0], given)]
    if not names:
        if given is not None:
            raise unexpected(name, f"{what} None", core.format_briefly(given))
        return []
    is_fitting = isinstance(given, tuple) and 0 <= len(given) - len(names) <= len(optional)
    if not is_fitting:
        got = core.describe_non_tuple(given) if isinstance(given, list) else core.describe(given)
        wanted = ", ".join(names) + "".join(f"[, {other}]" for other in optional)
        raise unexpected(name, f"{what} ({wanted})", got)
    return list(zip((*names, *optional), given, strict=False))


def per_example(dl: Cotangent, dim: int) -> Cotangent:
    """Add to dl, one number per example, the axis along which the loss has reduced its input."""
    return dl.unsqueeze(dim) if isinstance(dl, Tensor) and dl.ndim else dl
