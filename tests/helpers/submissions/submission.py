"""A submission: a layer or loss as a student wrote it, right or with one mistake."""

import inspect
import linecache
from collections.abc import Mapping
from itertools import count
from textwrap import dedent
from types import FunctionType
from typing import Any

import attrs
import numpy as np

import lincoln_fn as lf
from lincoln_fn.testing import from_numpy

_FILES = count()
# Where text of a function begins and ends, and what takes its place.
Change = tuple[int, int, str]


@attrs.frozen(eq=False)
class Submission:
    """A layer or loss, and what the checker should say.

    Args:
        family: the kind of layer.
        what: the mistake, or how right code is written.
        layer: the layer or loss.
        x: its input, or prediction.
        says: a regular expression for the first sentence of the report; "" for right code.
        params: its parameters; None for those of `init`.
        target: of a loss.
    """

    family: str
    what: str
    layer: Any
    x: Any
    says: str = ""
    params: Any = None
    target: Any = None

    def __str__(self) -> str:
        return f"{self.family}: {self.what}"

    def report(self) -> lf.testing.Report:
        """Check it."""
        if isinstance(self.layer, lf.Loss):
            return lf.testing.check_loss(self.layer, self.x, self.target, all=True)
        params = self.layer.init(lf.Key(3), self.x) if self.params is None else self.params
        return lf.testing.check_layer(self.layer, params, self.x, all=True)


@attrs.frozen(eq=False)
class Code:
    """Right code, of which changes of its text make submissions.

    Args:
        family: the kind of layer.
        forward: (x, *params, **options) -> (*outputs, cache).
        backward: (*gs, cache) -> (dx, *dparams); None where forward returns these beside a loss.
        arrays: x and the params.
        options: of forward, where it is of numpy.
        np: numpy, or torch, which the code finds under this name.
    """

    family: str
    forward: FunctionType
    backward: FunctionType | None
    arrays: tuple[Any, ...]
    options: Mapping[str, Any] = attrs.field(factory=dict)
    np: Any = np

    def layer(self, changes: tuple[Change, ...] = ()) -> lf.Layer:
        """Make the layer, with changes in what computes the gradients."""
        if self.backward is None:
            return from_numpy(compiled(self.forward, changes, np), **self.options)
        forward = compiled(self.forward, (), self.np)
        backward = compiled(self.backward, changes, self.np)
        if self.np is np:
            return from_numpy(forward, backward, **self.options)

        def run_back(params, cache, g):
            found = backward(g, cache)
            dx, *dparams = found if isinstance(found, tuple) else (found,)
            return dx, tuple(dparams)

        return lf.Layer("mine()", lambda params, x: forward(x, *params), run_back)

    def submission(
        self, what: str, says: str = "", changes: Mapping[str, str] | None = None, **other: Any
    ) -> Submission:
        """Make a submission with pieces of the text replaced, and with other fields."""
        code = attrs.evolve(self, **other)
        x, *params = code.arrays
        made = code.layer(code.places(changes or {}))
        return Submission(code.family, what, made, x, says, tuple(params))

    def places(self, changes: Mapping[str, str]) -> tuple[Change, ...]:
        """Make the changes of pieces of text that what computes the gradients has once."""
        text = source(self.backward or self.forward)
        assert all(text.count(old) == 1 for old in changes), changes
        starts = {old: text.index(old) for old in changes}
        return tuple((start, start + len(old), changes[old]) for old, start in starts.items())

    def text(self, changes: Mapping[str, str]) -> str:
        """Return the text of the functions, with pieces replaced."""
        changed = rewritten(self.backward or self.forward, self.places(changes))
        return source(self.forward) + changed if self.backward else changed


def source(function: FunctionType) -> str:
    """Return the text of a function."""
    return dedent(inspect.getsource(function))


def rewritten(function: FunctionType, changes: tuple[Change, ...]) -> str:
    """Return the text of a function with changes."""
    text = source(function)
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def compiled(function: FunctionType, changes: tuple[Change, ...], own_np: Any) -> FunctionType:
    """Make a function anew, with changes in its text."""
    text = rewritten(function, changes)
    file = f"<{function.__name__} {next(_FILES)}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    scope = {**function.__globals__, **inspect.getclosurevars(function).nonlocals, "np": own_np}
    exec(compile(text, file, "exec"), scope)
    return scope[function.__name__]


def normal(*shape: int, seed: int = 0) -> Any:
    """Draw an input from the standard normal distribution."""
    return lf.keys.normal(lf.Key(500 + seed), shape)


def layer(forward: Any, backward: Any) -> lf.Layer:
    """Make a layer without parameters of x -> (y, cache) and (cache, g) -> dx."""
    return lf.Layer(
        "mine()", lambda params, x: forward(x), lambda params, cache, g: (backward(cache, g), ())
    )


def of(library: lf.Layer, dx: Any) -> lf.Layer:
    """Give a layer of the library another dx, from its cache and g."""
    return library.replace(backward=lambda params, cache, g: (dx(cache, g), ()))


def trained(forward: Any, backward: Any) -> lf.Layer:
    """Make a layer of (params, x) -> (y, cache) and (params, cache, g) -> (dx, dparams)."""
    return lf.Layer("mine()", forward, backward)
