"""`check_layer` and `check_loss`: is backward the gradient of forward, and is all of it pure?

`stop_gradient` and `constant` have a dx of 0, which is not the derivative of what they compute. The
checker holds the output of each at its first value, wherever x and params are moved to. Of that
function 0 is the derivative, and all else in the layer is checked as it is.
"""

from __future__ import annotations

from inspect import signature

import torch

from lincoln_fn import core
from lincoln_fn.combine import constant
from lincoln_fn.core import Arrays, Key, Layer, Params, check_argument, tree
from lincoln_fn.layers import stop_gradient
from lincoln_fn.losses import Loss, through, weighted
from lincoln_fn.losses.internal import parts_of, through_of
from lincoln_fn.testing.diagnosis import HALVES, Finding, GradientError, Report, close_trees
from lincoln_fn.testing.run import Options, checked
from lincoln_fn.testing.sample import doubled, floating_leaves, not_dense
from lincoln_fn.training import check_example
from lincoln_fn.walk.internal import map_paths, paths


def check_layer(
    layer: Layer,
    params: Params,
    x: Arrays,
    *,
    key: Key = Key(0),
    directions: int = 1,
    predict_is_forward: bool | None = None,
    reference: Layer | None = None,
    all: bool = False,  # noqa: A002  # as the option is called
) -> Report:
    """Check a layer's gradients, in float64, and that its functions are pure.

    Compares `backward`, for a random g, with central differences along a random direction and with
    autograd of the same `forward`. Also checks that nothing is changed in place, that a second call
    gives the same result, that `backward` is linear in g, that `grads` and `input_grad` equal the
    halves of `backward`, that `predict` equals `forward` where it should, and that gradients have
    the structure of x and params. A composition is also checked in the walk of a training step, and
    in that of `cotangents` and `grads_at`. Choose sizes that differ from each other: in a square
    matrix, a transposed gradient has the right shape.

    All of this is judged at the given params and x. What is right there is judged once more where
    every number of params, states and x is 0.3 to 0.9 times as large, and no zero is left: scales
    of 1, biases of 0, equal rows and symmetric matrices hide mistakes. The error says what hid it.
    Signs stay. A leaf that the layer takes only as given stays, and the report says so. For
    `stop_gradient` and `constant`, held at their first output, a dx of 0 is right.

    Where x lies on a kink, a tie or a jump, any gradient between the slopes around is right. A
    mistake is told by the line of `backward` that made it and by how its value differs from the
    right gradient, where two draws agree. The wrong part of a composition is named by its path.

    Args:
        x: an input, a tensor or a tuple. Floating x and params are converted to float64.
        directions: the number of random directions per leaf. One shows any mistake but by chance.
        predict_is_forward: whether `predict` should equal `forward`; None expects it of layers
            without state, that is, without an `advance`.
        reference: the right layer, which takes the same params and x. Where `forward` computes
            something else, the report says so, and the reference's gradients are the right ones.
        all: whether to report every gradient, in place of an error at the first that is wrong.

    Raises:
        GradientError: naming the leaf and the most likely mistake; not with `all=True`.

    Example:
        >>> x = torch.tensor([[1.0, -2.0, 3.0]])
        >>> check_layer(lf.tanh(), (), x)
        tanh(): right
          ✓ dx
        >>> negated = lf.tanh().replace(backward=lambda params, y, g: (g * (y**2 - 1), ()))
        >>> check_layer(negated, (), x)
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.GradientError: tanh(): dx has the wrong sign
    """
    check_argument("check_layer", "layer", Layer, layer, ("layer", "params", "x"))
    check_argument("check_layer", "key", Key, key)
    check_example("check_layer", x)
    if told := not_dense({"params": params}):
        raise core.LayerError("check_layer", told)
    if reference is not None:
        check_argument("check_layer", "reference", Layer, reference)
    options = Options(key, directions, predict_is_forward, all, reference)
    return checked(hold_stopped(layer), doubled(params), doubled(x), options)


def check_loss(
    loss: Loss,
    prediction: Arrays,
    target: Arrays,
    *,
    key: Key = Key(0),
    all: bool = False,  # noqa: A002  # as the option is called
) -> Report:
    """Check a loss's gradient, in float64, and that its functions are pure.

    It is judged at the given prediction and, as `check_layer` does, where its numbers are smaller:
    predictions that are equal, or equal the target, hide mistakes. The target stays.

    Args:
        prediction: a prediction, or a tuple of tensors; converted to float64.
        target: its labels, or a tuple or None; converted to float64 if they are floating.
        all: whether to report every gradient, in place of an error at the first that is wrong.

    Raises:
        GradientError: naming the most likely mistake; not with `all=True`.

    Example:
        >>> loss = lf.losses.sigmoid_cross_entropy()
        >>> check_loss(loss, torch.tensor([1.0, -2.0]), torch.tensor([1, 0]))
        sigmoid_cross_entropy(): right
          ✓ dx
    """
    check_argument("check_loss", "loss", Loss, loss, ("loss", "prediction", "target"))
    check_argument("check_loss", "key", Key, key)
    check_example("check_loss", prediction)
    prediction, target, loss = doubled(prediction), doubled(target), hold_stopped_of_loss(loss)
    report = checked(as_layer(loss, target), (), prediction, Options(key, all=all))
    if report.is_right and (told := _default_of_g(loss, prediction, target)):
        sentence = f"{loss.name}: {told}"
        if not all:
            raise GradientError(sentence)
        finding = Finding("", loss.name, "backward", "wrong", "another default of g", sentence)
        report = Report(report.name, (*report.findings, finding), report.remarks)
    return report


def as_layer(loss: Loss, target: Arrays) -> Layer:
    """Make a layer of a loss, with the prediction as its x."""

    def backward(params: Params, cache: core.Cache, g: Arrays) -> tuple[Arrays, Params]:
        return loss.backward(cache, g), ()

    return Layer(loss.name, lambda params, x: loss.forward(x, target), backward)


def _default_of_g(loss: Loss, prediction: Arrays, target: Arrays) -> str:
    """Say what is wrong with `backward(cache)`, which is g = 1; "" if nothing is."""
    value, cache = loss.forward(prediction, target)
    try:
        signature(loss.backward).bind(cache)
    except TypeError:
        return "backward(cache) has no default of g; write def backward(cache, g=1.0)"
    one = loss.backward(cache, torch.ones_like(value))
    is_one = close_trees(loss.backward(cache), one)
    return "" if is_one else "backward(cache) differs from backward(cache, g=1)"


def hold_stopped(layer: Layer) -> Layer:
    """Make a layer in which the outputs of what stops a gradient stay at their first values."""
    if not any(_stops(part) for _, part in paths(layer)):
        return layer
    return map_paths(lambda part, path: _held(part) if _stops(part) else part, layer)


def hold_stopped_of_loss(loss: Loss) -> Loss:
    """Make a loss in which the outputs of what stops a gradient stay at their first values."""
    if (pair := through_of(loss)) is not None:
        layer, behind = pair
        return through(hold_stopped(layer), hold_stopped_of_loss(behind))
    parts = parts_of(loss).items()
    held = {name: (weight, hold_stopped_of_loss(part)) for name, (weight, part) in parts}
    return weighted(held) if held else loss


def _stops(layer: Layer) -> bool:
    return core.made_by(layer, constant, stop_gradient.stop_gradient)


def _held(layer: Layer) -> Layer:
    """Let a layer return its first output again, for each shape of it."""
    # The first call gets what the check was given, without a tangent.
    first: dict[tuple[object, ...], Arrays] = {}

    def hold(x: Arrays, y: Arrays) -> Arrays:
        kind = tuple((leaf.shape, leaf.dtype) for leaf in tree.leaves(y))
        moving = [leaf.sum() for leaf in floating_leaves(x)]
        # Autograd sees that it depends on x, with the derivative 0.
        nothing = 0 * torch.stack(moving).sum() if moving else 0
        held = first.setdefault(kind, y)
        return tree.map(lambda leaf: leaf + nothing if leaf.is_floating_point() else leaf, held)

    def forward(params: Params, x: Arrays) -> tuple[Arrays, core.Cache]:
        y, cache = layer.forward(params, x)
        return hold(x, y), cache

    kept = {name: getattr(layer, name) for name in ("backward", *HALVES)}
    kept["predict"] = lambda params, x: hold(x, layer.predict(params, x))
    return layer.replace(forward=forward, **kept)
