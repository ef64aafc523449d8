"""`check_layer` and `check_loss`: is backward the gradient of forward, and is all of it pure?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from lincoln_fn import keys, tree
from lincoln_fn._batches import check_example
from lincoln_fn._kinds import check_kinds
from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays, Cache, Layer, Params
from lincoln_fn.losses.loss import Loss
from lincoln_fn.testing.diagnosis import GradientError, close, likeliest_mistake
from lincoln_fn.testing.functions import Results, check_other_functions, close_trees
from lincoln_fn.testing.oracles import by_autograd, full_gradient, inner, slope_along
from lincoln_fn.testing.purity import check_finite, check_same, check_untouched, snapshot

T = TypeVar("T")

# Central differences element by element are expensive; above this size, autograd's gradient is
# used.
LARGEST_FULL_GRADIENT = 5000


def check_layer(
    layer: Layer,
    params: Params,
    x: Arrays,
    *,
    key: Key = Key(0),
    directions: int = 3,
    predict_is_forward: bool | None = None,
) -> None:
    """Check a layer's gradients, in float64, and that its functions are pure.

    Compares `backward`, for a random g, with central differences along random directions and with
    autograd of the same `forward`. Also checks that nothing is changed in place, that a second call
    gives the same result, that `backward` is linear in g, that `grads` and `input_grad` equal the
    halves of `backward`, that `predict` equals `forward` where it should, and that gradients have
    the structure of x and params. Choose sizes that differ from each other: in a square matrix, a
    transposed gradient has the right shape.

    Args:
        layer: the layer, the library's or your own.
        params: its parameters; converted to float64.
        x: an input, a tensor or a tuple of them; floating ones are converted to float64.
        key: g and the directions are drawn from it.
        directions: the number of random directions per leaf.
        predict_is_forward: whether `predict` should equal `forward`; None expects it of layers
            without state, that is, without an `advance`.

    Raises:
        GradientError: naming the leaf and the most likely mistake.
        LayerError: if an argument has the wrong type; and as the layer does.

    Example:
        >>> import lincoln_fn as lf
        >>> x = torch.tensor([[1.0, -2.0, 3.0]])
        >>> check_layer(lf.tanh(), (), x)
        >>> negated = lf.tanh().replace(backward=lambda params, y, g: (g * (y**2 - 1), ()))
        >>> check_layer(negated, (), x)
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.GradientError: tanh(): dx has the wrong sign
    """
    check_kinds("check_layer", "(layer, params, x)", layer=(layer, Layer), key=(key, Key))
    check_example("check_layer", x)
    params, x = _double(params), _double(x)
    before = snapshot(params=params, x=x)
    y, cache = layer.forward(params, x)
    check_untouched(layer.name, "forward", before)
    check_finite(layer.name, "y", y)
    check_same(layer.name, "a second forward", layer.forward(params, x)[0], y)

    key, other = key.split()
    g = _random_like(y, key)
    before = snapshot(params=params, x=x, cache=cache, g=g, y=y)
    dx, dparams = layer.backward(params, cache, g)
    check_untouched(layer.name, "backward", before)
    check_same(layer.name, "a second backward", layer.backward(params, cache, g), (dx, dparams))

    names, arrays, rebuild = _floating(params, x)
    gradients = _mirrored(layer.name, names, (params, x), (dparams, dx))
    for path, gradient in zip(names, gradients, strict=True):
        check_finite(layer.name, path, gradient)
    _check_linear(layer, params, cache, (g, _random_like(y, other)), names)

    def forward(moved: Sequence[Tensor]) -> Arrays:
        return layer.forward(*rebuild(moved))[0]

    leaves = list(zip(names, arrays, gradients, strict=True))
    _check_values(layer.name, forward, leaves, (g, y), key, directions)
    check_other_functions(layer, params, x, Results(y, cache, g, dx, dparams), predict_is_forward)


def check_loss(loss: Loss, prediction: Arrays, target: Arrays, *, key: Key = Key(0)) -> None:
    """Check a loss's gradient, in float64, and that its functions are pure.

    Args:
        loss: the loss, the library's or your own.
        prediction: a prediction, or a tuple of tensors; converted to float64.
        target: its labels, or a tuple or None; converted to float64 if they are floating.
        key: g and the directions are drawn from it.

    Raises:
        GradientError: naming the most likely mistake.
        LayerError: if an argument has the wrong type; and as the loss does.

    Example:
        >>> import lincoln_fn as lf
        >>> loss = lf.losses.sigmoid_cross_entropy()
        >>> check_loss(loss, torch.tensor([1.0, -2.0]), torch.tensor([1, 0]))
    """
    check_kinds("check_loss", "(loss, prediction, target)", loss=(loss, Loss), key=(key, Key))
    check_example("check_loss", prediction)
    target = _double(target)
    as_layer = Layer(
        loss.name,
        forward=lambda params, x: loss.forward(x, target),
        backward=lambda params, cache, g: (loss.backward(cache, g), ()),
    )
    check_layer(as_layer, (), prediction, key=key)
    value, cache = loss.forward(_double(prediction), target)
    one = loss.backward(cache, torch.ones_like(value))
    if not close_trees(loss.backward(cache), one):
        raise GradientError(f"{loss.name}: backward(cache) differs from backward(cache, g=1)")


def _double(arrays: T) -> T:
    def converted(leaf: Tensor) -> Tensor:
        return leaf.double() if leaf.is_floating_point() else leaf

    return tree.map(converted, arrays, states=True)


def _random_like(arrays: T, key: Key) -> T:
    """Draw a cotangent for an output, with different numbers for each of its tensors."""
    count = iter(range(len(tree.leaves(arrays))))

    def drawn(leaf: Tensor) -> Tensor:
        return keys.normal(key.fold_in(next(count)).near(leaf), tuple(leaf.shape), dtype=leaf.dtype)

    return tree.map(drawn, arrays)


Rebuild = Callable[[Sequence[Tensor]], tuple[Params, Arrays]]


def _floating(params: Params, x: Arrays) -> tuple[list[str], list[Tensor], Rebuild]:
    """List the tensors to differentiate by, with names, and a function that replaces them."""
    both = {"dparams": params, "dx": x}
    leaves = tree.leaves(both)
    names = [
        name
        for name, leaf in zip(tree.paths(both), leaves, strict=True)
        if leaf.is_floating_point()
    ]

    def rebuild(moved: Sequence[Tensor]) -> tuple[Params, Arrays]:
        values = iter(moved)
        new = tree.map(lambda leaf: next(values) if leaf.is_floating_point() else leaf, both)
        return new["dparams"], new["dx"]

    return names, [leaf for leaf in leaves if leaf.is_floating_point()], rebuild


def _mirrored(
    name: str, names: list[str], of: tuple[Params, Arrays], given: tuple[Params, Arrays]
) -> list[Tensor]:
    """List the gradients in the order of `names`, or say why they do not mirror x and params."""
    # An input that is not floating has no gradient: dx has None there.
    expected = tree.map(
        lambda leaf: leaf if leaf.is_floating_point() else None, {"dparams": of[0], "dx": of[1]}
    )
    gradients = {"dparams": given[0], "dx": given[1]}
    if not tree.same_structure(expected, gradients):
        wanted = ", ".join(names) or "nothing"
        got = ", ".join(tree.paths(gradients)) or "nothing"
        raise GradientError(
            f"{name}: expected gradients {wanted}; got {got}, or records of other kinds"
        )
    for path, leaf, gradient in zip(
        names, tree.leaves(expected), tree.leaves(gradients), strict=True
    ):
        for what in ("dtype", "device"):
            if getattr(leaf, what) != getattr(gradient, what):
                kinds = f"{getattr(leaf, what)}, got {getattr(gradient, what)}"
                raise GradientError(f"{name}: {path}: expected {what} {kinds}")
    return tree.leaves(gradients)


def _check_linear(
    layer: Layer, params: Params, cache: Cache, cotangents: tuple[Arrays, Arrays], names: list[str]
) -> None:
    first, second = cotangents
    mixed = tree.map(lambda a, b: 2 * a - 3 * b, first, second)
    results = []
    for g in (first, second, mixed):
        dx, dparams = layer.backward(params, cache, g)
        results.append(tree.leaves({"dparams": dparams, "dx": dx}))
    for path, a, b, both in zip(names, *results, strict=True):
        if not close(both, 2 * a - 3 * b):
            raise GradientError(
                f"{layer.name}: {path} is not linear in g: is g a factor of every term?"
            )


def _check_values(
    name: str,
    forward: Callable[[Sequence[Tensor]], Arrays],
    leaves: Sequence[tuple[str, Tensor, Tensor]],
    outputs: tuple[Arrays, Arrays],
    key: Key,
    directions: int,
) -> None:
    g, y = outputs
    arrays = [array for _, array, _ in leaves]
    automatic = by_autograd(forward, arrays, g)
    noise = 1e-9 * inner(tree.map(_absolute, g), tree.map(_absolute, y)) + 1e-12
    sizes = {n for leaf in (*tree.leaves(y), *arrays) for n in (*leaf.shape, leaf.numel()) if n > 1}
    for i, (path, array, gradient) in enumerate(leaves):
        for j in range(directions):
            draw = key.fold_in(i * directions + j)
            direction = keys.normal(draw, tuple(array.shape), dtype=torch.float64).to(array.device)
            right = gradient.shape == array.shape
            if right:
                found = (gradient * direction).sum()
                tolerance = 1e-6 * (gradient * direction).abs().sum() + noise
                right = bool(
                    (found - slope_along(forward, arrays, i, direction, g)).abs() <= tolerance
                )
            if not right:
                small = array.numel() <= LARGEST_FULL_GRADIENT
                truth = full_gradient(forward, arrays, i, g) if small else automatic[i]
                mistake = likeliest_mistake(gradient, truth, tuple(sizes))
                raise GradientError(f"{name}: {path} {mistake}")
        if not close(gradient, automatic[i]):
            mistake = likeliest_mistake(gradient, automatic[i], tuple(sizes))
            raise GradientError(f"{name}: against autograd alone, {path} {mistake}")


def _absolute(leaf: Tensor) -> Tensor:
    """Compute absolute values, but not of a mask."""
    return leaf if leaf.dtype is torch.bool else leaf.abs()
