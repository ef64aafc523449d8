"""Attribution patching: what patching each output would change, to first order, for all at once.

Activation patching runs a network on a corrupted input, puts one output a of a clean run in the
place of the corrupted run's, and measures how the metric M changes. For every path it is one run.

Derivation. By Taylor's theorem at the corrupted run, one backward pass gives every path's change:

    M(a_"clean") - M(a_"corrupted") = (a_"clean" - a_"corrupted") (dM)/(da) + O("difference"^2)

The product is computed element by element. Its sum over an output, or over a part of it, is the
effect of patching that output, or that part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from torch import Tensor

from lincoln_fn.attribution.gradient import Target, explained_output, product
from lincoln_fn.combine import inference
from lincoln_fn.core import Arrays, Cache, Layer, Params, check_argument, tree, unexpected
from lincoln_fn.inspect import outputs
from lincoln_fn.inspect.internal import labels_of, note
from lincoln_fn.rules.internal import with_true_gradient
from lincoln_fn.walk.internal import composition_of, map_paths

# Which output counts, as `explained_output` takes it, or a function from y to dM/dy.
Metric: TypeAlias = Target | Callable[[Arrays], Arrays]


def attribution_patching(
    net: Layer,
    params: Params,
    clean_x: Arrays,
    corrupted_x: Arrays,
    metric: Metric,
    *,
    rule: Callable[[Layer], Layer] | None = None,
) -> dict[str, Arrays]:
    """Estimate the effect of patching every output of a corrupted run by the clean run's.

    Args:
        net: the network, as it is after training.
        clean_x: the input of the run that the outputs come from.
        corrupted_x: the input of the run that is patched, of the same shape.
        metric: what is measured: a class, or weights of y's shape, so that the metric is
            sum(weights * y), such as 1 and -1 for the difference of two logits; or a function from
            y to dM/dy, for any other metric M, such as that of a loss.
        rule: makes the network whose backward takes the place of the gradient, such as
            `lf.rules.relp` (RelP); None for the gradient.

    Returns:
        By the path of each layer and composition, (a_clean - a_corrupted) dM/da, of its output's
        shape; None for an output without a gradient. The second use of a layer has the path
        "3, use 2", and so on.

    Source:
        Nanda, "Attribution Patching: Activation Patching At Industrial Scale", 2023; Syed, Rager
        and Conmy, "Attribution Patching Outperforms Automated Circuit Discovery", 2023.

    Example:
        >>> net, x = lf.serial(lf.dense(3, bias=False), lf.dense(1)), torch.eye(2)
        >>> params = net.init(lf.Key(0), x)
        >>> effects = attribution_patching(net, params, x[:1], x[1:], 0)
        >>> change = net.predict(params, x[:1]) - net.predict(params, x[1:])
        >>> [torch.allclose(effect.sum(), change.sum()) for effect in effects.values()]
        [True, True, True]
    """
    order = ("net", "params", "clean_x", "corrupted_x")
    check_argument("attribution_patching", "net", Layer, net, order)
    net = with_true_gradient(inference(net))
    corrupted: dict[str, Arrays] = {}
    run_again: dict[str, Arrays] = {}
    uses: list[tuple[str, Arrays, Arrays]] = []
    ruled = net if rule is None else rule(net)
    watched = map_paths(partial(_watched, corrupted, run_again, uses), ruled)
    clean = outputs(net, params, clean_x)
    y, cache = watched.forward(params, corrupted_x)
    g = metric(y) if callable(metric) else explained_output("attribution_patching", y, metric)
    run_again.update(corrupted)
    watched.input_grad(params, cache, g)
    effects = {label: product(_difference(label, clean[label], y), g) for label, y, g in uses}
    return {label: effects[label] for label in corrupted if label in effects}


def _watched(
    seen: dict[str, Arrays],
    run_again: dict[str, Arrays],
    found: list[tuple[str, Arrays, Arrays]],
    layer: Layer,
    path: str,
) -> Layer:
    """Let a layer's forward note y, and its backward y and g, by the label of the use."""
    whole = composition_of(layer)

    def forward(run: Callable[..., Arrays], *arguments: Arrays) -> tuple[Arrays, Cache]:
        y, cache = run(*arguments)
        label = _use_of(path, y, run_again) if run_again else note(seen, path, y)
        return y, (cache, [label, y])

    def backward(run: Callable[..., Arrays], *arguments: Arrays) -> Arrays:
        *first, (cache, (label, y)), g = arguments
        found.append((label, y, g))
        return run(*first, cache, g)

    if whole is not None:
        loops = {"there": partial(forward, whole.there), "back": partial(backward, whole.back)}
        return layer.rebuild(layer.parts, **loops)
    return layer.replace(
        forward=partial(forward, layer.forward),
        backward=partial(backward, layer.backward),
        input_grad=partial(backward, layer.input_grad),
    )


def _use_of(path: str, y: Arrays, run_again: dict[str, Arrays]) -> str:
    """Find which use of a layer that backward runs again had the output y, or the closest to it."""

    def distance(label: str) -> float:
        pairs = list(zip(tree.leaves(run_again[label]), tree.leaves(y), strict=True))
        if any(a.shape != b.shape for a, b in pairs):
            return math.inf
        return sum((a.double() - b.double()).abs().sum().item() for a, b in pairs)

    label = min(labels_of(path, run_again), key=distance)
    # To the end, for of equal outputs the one whose turn was longest ago is next.
    run_again[label] = run_again.pop(label)
    return label


def _difference(label: str, clean: Arrays, corrupted: Arrays) -> Arrays:
    if isinstance(clean, tuple):
        pairs = zip(clean, corrupted, strict=True)
        return tuple(_difference(label, *pair) for pair in pairs)
    if not isinstance(clean, Tensor):
        return None
    if clean.shape != corrupted.shape:
        expected = "both runs to have outputs of one shape"
        got = f"{tuple(clean.shape)} and {tuple(corrupted.shape)}"
        raise unexpected(f"attribution_patching: {label!r}", expected, got)
    return clean - corrupted if clean.is_floating_point() else None
