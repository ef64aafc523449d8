"""A layer made of layers, from two loops.

    there(visit, params, x) -> (y, cache)              visit(i, params, x) -> (y, record)
    back(visit, params, cache, g) -> (dx, records)     visit(i, params, cache, g) -> (dx, record)

`visit` does at part i whatever the walk is for. The loops decide the order of the parts, and how x,
y, g and dx go from one to the next. They return the visitor's records, too: in `forward` these are
caches, in `backward` the gradients of the parts' parameters.

The loops may read `visit.label`, the composition's name in errors, and `visit.parts`. If a part is
used several times, `visit.advance(i, params, record)` advances its state between the uses. A part
that is not trained is visited with `train=False`. If a part's dx is not needed, it is None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Literal, TypeAlias

import attrs

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, Spec, unchanged, wrong_kind
from lincoln_fn.walk.arrangement import ENTRIES, Arrangement, Record, gather_by, visit_parts
from lincoln_fn.walk.init import init_in_turn, remembering
from lincoln_fn.walk.parts import Parts, always, make_room
from lincoln_fn.walk.visitors import BACKWARD, DPARAMS, DX, FORWARD, PREDICT, VisitBack, VisitThere

There: TypeAlias = Callable[[VisitThere, Params, Arrays], tuple[Arrays, Record]]
Back: TypeAlias = Callable[[VisitBack, Params, Cache, Arrays], tuple[Arrays, Record]]
VisitRecord: TypeAlias = Callable[[int, Params, Record], Params]
Gather: TypeAlias = Callable[[VisitRecord, Params, Record], Params]
Init: TypeAlias = Callable[[tuple[Layer, ...], Key, Arrays], Params]
Advance: TypeAlias = Callable[[VisitThere, Params, Cache], Params]
CallOf: TypeAlias = Callable[[tuple[Layer, ...]], str]
Mask: TypeAlias = Literal["part", "sequence", "state", "position", "lost"]


def composition(
    label: str | Callable[..., Layer],
    parts: tuple[Layer, ...],
    there: There,
    back: Back,
    *,
    gather: Gather | None = None,
    init: Init | None = None,
    advance: Advance | None = None,
    predict: There | None = None,
    needs_dx: Callable[[int, Params], bool] | None = None,
    call: CallOf | str | None = None,
    arrange: Arrangement = ENTRIES,
    names: tuple[str, ...] = (),
    mask: Mask | None = None,
    reads_once: bool = False,
    freezes: bool = False,
) -> Layer:
    """Make a layer of layers.

    Args:
        label: the combinator, such as `serial`, if it takes the parts as its arguments; or its
            name; or its call, where a `constructor` makes it and its layers are the first parts.
            Errors and the default name begin with it.
        there: the loop from input to output, as the module says.
        back: the loop from output to input.
        gather: (visit, params, records) -> dparams, where visit(i, params, record) returns the
            gradient of one use of part i; those of a part that is used several times are added up.
            Default: records are a tuple that begins with one of each part, and params are as
            `arrange` says.
        init: (parts, key, x) -> params. Default: one part after the other, each with its own key
            and the output of the part before.
        advance: (visit, params, cache) -> params, where visit.advance(i, params, cache) advances
            part i. Default: the cache is a tuple that begins with that of each part, as above.
        predict: the loop of `predict`, if it computes something else than `there`, the default.
        needs_dx: (i, params) -> whether a trained part needs the dx of part i. Then it is computed
            even if the composition's dx is not needed. Default: always.
        call: parts -> the code that makes the composition, its name; or a name that does not depend
            on them. Default: `label(part, part)`.
        arrange: how params are made of those of the parts: `ITS_PART` for those of the only part,
            `fields(Params, "query", ...)` for a record, or an `Arrangement` of your own. Default: a
            tuple with one entry per part. `map_params`, `lora` and state dicts use it.
        names: of the parts, for paths such as "0.query"; "" for none. Default: no part has one.
        mask: how it takes the mask of a sequence, for `lf.masked`: "part" if it gives its x to the
            first part, which may take one; "sequence", "state" or "position" as `lf.declare` has
            it; "lost" if it cannot. Default: it takes none, and `masked` refuses a part that does,
            or that may mix positions, or is a combinator of your own.
        reads_once: former, and without effect.
        freezes: likewise.

    Example:
        >>> def there(visit, params, x):  # y = inner(outer(x)), with one tuple of params
        ...     h, first = visit(0, params[0], x)
        ...     y, second = visit(1, params[1], h)
        ...     return y, (first, second)
        >>> def back(visit, params, cache, g):
        ...     g, second = visit(1, params[1], cache[1], g)
        ...     dx, first = visit(0, params[0], cache[0], g)
        ...     return dx, (first, second)
        >>> composition("both", (lf.dense(4), lf.tanh()), there, back)
        both(dense(4), tanh())
    """
    if isinstance(label, Spec):
        call, label = call or partial(_call_again, label), label.of.__name__
    elif not isinstance(label, str):
        call, label = call or partial(core.call_of_parts, label), label.__name__
    return Composition(
        label=label, parts=parts, there=there, back=back, gather=gather or gather_by(arrange),
        init=init or init_in_turn, advance=advance or partial(_advance_parts, arrange),
        predict=predict or there, needs_dx=needs_dx or always, call=call or partial(_call, label),
        arrange=arrange, names=names, mask=mask,
    )._layer()  # fmt: skip


def _advance_parts(arrange: Arrangement, visit: VisitThere, params: Params, cache: Cache) -> Params:
    return visit_parts(arrange, visit.advance, params, cache)


def _named(parts: tuple[Layer, ...], *, name: str) -> str:
    return name


def _as_call(call: CallOf | str) -> CallOf:
    return partial(_named, name=call) if isinstance(call, str) else call


def _call_again(call: Spec, parts: tuple[Layer, ...]) -> Spec:
    """Write a constructor's call with these parts as its layers, in the order of its arguments."""
    rest = iter(parts)

    def given(value: object) -> object:
        if type(value) is tuple:
            return tuple(map(given, value))
        return next(rest) if isinstance(value, Layer) else value

    return Spec(call.of, {name: given(value) for name, value in call.arguments.items()})


def _call(label: str, parts: tuple[Layer, ...]) -> str:
    return f"{label}({', '.join(part.name for part in parts)})"


@attrs.frozen(eq=False, slots=False, kw_only=True)
class Composition(Parts):
    """How a layer is made of its parts; `composition` explains the fields."""

    there: There
    back: Back
    gather: Gather
    init: Init
    advance: Advance
    predict_there: There = attrs.field(alias="predict")
    call: CallOf = attrs.field(converter=_as_call)
    mask: Mask | None

    def __attrs_post_init__(self) -> None:
        make_room(self.label, self.depth)

    def __getstate__(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in attrs.fields(Composition)}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Load a pickle, if there is room for its depth."""
        for name, value in state.items():
            object.__setattr__(self, name, value)
        make_room(self.label, self.depth)

    @cached_property
    def depth(self) -> int:
        """How deeply compositions are nested within this one, itself included."""
        within = map(composition_of, self.parts)
        return 1 + max((made.depth for made in within if made is not None), default=0)

    @cached_property
    def takes_mask(self) -> str | None:
        """How it takes a mask, as `mask_form` has it."""
        if self.mask == "part":
            return mask_form(self.parts[0])
        forms = {*map(mask_form, self.parts)}
        if self.mask or not forms <= {"position", None}:
            return self.mask or "lost"
        return "position" if None not in forms and core.is_ours(self.there) else None

    def forward(self, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        """Walk forward, with each part's `forward`."""
        return VisitThere(self, FORWARD).run(self.there, params, x)

    def predict(self, params: Params, x: Arrays) -> Arrays:
        """Walk forward, with each part's `predict`."""
        return VisitThere(self, PREDICT).run(self.predict_there, params, x)[0]

    def initialise(self, key: Key, x: Arrays) -> Params:
        """Make the parts' params."""
        if not isinstance(key, Key):
            raise wrong_kind(self.label, "key", key, "Key", ".init(key, x)")
        with remembering():
            return self.init(self.placed, key, x)

    def backward(self, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        """Walk back, with each part's `backward`."""
        dx, records = VisitBack(self, BACKWARD).run(self.back, params, cache, g)
        return dx, self.gathered(params, records)

    def input_grad(self, params: Params, cache: Cache, g: Arrays) -> Arrays:
        """Walk back, with each part's `input_grad`."""
        return VisitBack(self, BACKWARD, "", params, DX).run(self.back, params, cache, g)[0]

    def grads(self, params: Params, cache: Cache, g: Arrays) -> Params:
        """Walk back, without any dx that only the composition's own dx needs."""
        visit = VisitBack(self, BACKWARD, "", params, DPARAMS)
        return self.gathered(params, visit.run(self.back, params, cache, g)[1])

    def gathered(self, params: Params, records: Record) -> Params:
        """Put records that mirror the parts' params into the structure of the composition's."""
        return self.gather(lambda i, entry, record: record, params, records)

    def advanced(self, params: Params, cache: Cache) -> Params:
        """Advance each part."""
        return self.advance(VisitThere(self, FORWARD), params, cache)

    # Any: arguments of `composition`, by name.
    def rebuild(self, parts: tuple[Layer, ...], **changes: Any) -> Layer:
        """Make the same composition of other parts, with other taps or arguments of its maker."""
        if self.predict_there is self.there:  # so a new one is that of `predict`, too
            changes = {"predict": changes.get("there", self.there), **changes}
        return attrs.evolve(self, parts=parts, **changes)._layer()

    def _layer(self) -> Layer:
        is_still = all(part.advance is unchanged for part in self.parts)
        name = self.call(self.parts)
        layer = Layer(
            name, self.forward, self.backward, self.initialise, self.predict, self.input_grad,
            self.grads, unchanged if is_still else self.advanced, self,
        )  # fmt: skip
        return core.with_spec(layer, name) if isinstance(name, core.Spec) else layer


def mask_form(layer: Layer) -> str | None:
    """Return how a layer takes the mask of a sequence.

    "sequence" is by (sequence, mask), "state" by (sequence, state, mask). "position" needs none.
    "lost" is that a part would take one but gets none. None is that it may mix positions.
    """
    made = composition_of(layer)
    return core.mask_of(layer) if made is None else made.takes_mask


def composition_of(layer: Layer) -> Composition | None:
    """Return how a layer is made of its parts; None for a single layer."""
    made = layer.composition
    assert made is None or isinstance(made, Composition), "`composition` makes it"
    return made
