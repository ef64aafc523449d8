"""A submission: a layer or loss as a student wrote it, right or with one mistake."""

from typing import Any

import attrs

import lincoln_fn as lf


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


def activation(what: str, made: lf.Layer, says: str, x: Any = None) -> Submission:
    return Submission("activation", what, made, normal(5, 3) if x is None else x, says)


def trained(forward: Any, backward: Any) -> lf.Layer:
    """Make a layer of (params, x) -> (y, cache) and (params, cache, g) -> (dx, dparams)."""
    return lf.Layer("mine()", forward, backward)
