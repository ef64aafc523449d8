"""Layers with another backward: with other matrices than forward's, or g passed on unchanged.

    y, cache    = forward(W, x)
    dx, dparams = backward(B, cache, g)    with B in the place of W

The layer's own backward is called with B in the places of its matrices. A dense layer, for
instance, then computes dx = g B^T and, as x and g do not depend on B, dW = x^T g.

It is a composition of the layer and of its feedback, a layer that computes B from W:

    state = init(key, (W, M))    W at first, and M, drawn as the layer draws W, by another key
    B     = predict(state, W)
    state = advance(state, None)

A step such as rounding has the derivative 0 almost everywhere, so nothing before it would learn.
The straight-through estimator takes it for 1, dx = g, and leaves the layer's dparams alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, Spec, checked, record, tree
from lincoln_fn.initializers import Initializer
from lincoln_fn.rules.matrices import Selector, fans_of, map_chosen, matrices, with_matrices
from lincoln_fn.walk import VisitThere, composition, fields
from lincoln_fn.walk.internal import Record, VisitBack, VisitRecord, around, one_part

Matrices: TypeAlias = tuple[Tensor, ...]


@record
class FeedbackParams:
    """A layer's params, and what its feedback matrices are made of: a state, or matrices."""

    params: Params
    feedback: Params


def with_feedback(
    rule: Callable[..., Layer],
    net: Layer,
    feedback: Layer,
    layers: Selector,
    *,
    is_trained: bool = False,
    **options: Any,  # Any: the rule's options
) -> Layer:
    """Give feedback to each layer that a selector takes, and gradients to it if it is trained."""
    call = partial(_call, rule=rule, layers=layers, **options)
    name = rule.__name__

    def wrapped(layer: Layer) -> Layer:
        return composition(
            name, (layer, feedback), one_part.there, back,
            gather=partial(_gather, is_trained=is_trained),
            arrange=fields(FeedbackParams, "params", "feedback"),
            init=_init, advance=_advance, needs_dx=one_part.needs_dx, call=call, mask="part",
        )  # fmt: skip

    return map_chosen(name, wrapped, net, layers)


# Any: the rule's options.
def _call(parts: tuple[Layer, ...], *, rule: Callable[..., Layer], **options: Any) -> Spec:
    return Spec(rule, {"net": parts[0], **options}, f"{rule.__name__}({parts[0].name})")


def back(
    visit: VisitBack, params: FeedbackParams, cache: Cache, g: Arrays
) -> tuple[Arrays, Record]:
    """Compute dx and dparams by the matrices of the feedback."""
    core.check_params(visit.label, params, FeedbackParams)
    others = visit.parts[1].predict(params.feedback, matrices(params.params))
    return visit(0, with_matrices(params.params, others), cache, g)


def _gather(
    visit: VisitRecord, params: FeedbackParams, records: Record, *, is_trained: bool
) -> FeedbackParams:
    dparams = visit(0, params.params, records)
    if not is_trained:
        return FeedbackParams(dparams, params.feedback)
    pairs = zip(tree.leaves(params.params), tree.leaves(dparams), strict=True)
    return FeedbackParams(dparams, tuple(dp for p, dp in pairs if p.ndim > 1))


def true_gather(visit: VisitRecord, params: FeedbackParams, records: Record) -> FeedbackParams:
    """Give matrices that are trained a gradient of zero, since y does not depend on them."""
    zeros = tree.map(torch.zeros_like, params.feedback)
    return FeedbackParams(visit(0, params.params, records), zeros)


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> FeedbackParams:
    layer, feedback = parts
    params = layer.init(key, x)
    drawn = matrices(params), matrices(layer.init(key.fold_in(1), x))
    return FeedbackParams(params, feedback.init(key.fold_in(2), drawn))


def _advance(visit: VisitThere, params: FeedbackParams, cache: Cache) -> FeedbackParams:
    moved = visit.advance(0, params.params, cache)
    return FeedbackParams(moved, visit.advance(1, params.feedback, None))


def draw_matrices(
    key: Key, x: tuple[Matrices, Matrices], initializer: Initializer | None
) -> Matrices:
    """Draw B by an initializer; None takes the matrices that were drawn as the layer draws W."""
    if initializer is None:
        return x[1]
    return tuple(
        initializer.draw(key.fold_in(i), tuple(w.shape), fans_of(w), w.dtype)
        for i, w in enumerate(x[0])
    )


def no_backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    """Refuse a gradient: feedback is computed on the way back, and is not differentiated."""
    mend = "walk through the layer that it belongs to"
    raise core.LayerError("feedback", f"it has no backward; {mend}")


def pass_on(visit: VisitBack, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    """Compute the layer's dparams, and return g as dx."""
    _, record = visit(0, params, cache, g)
    return g, record


@checked
def straight_through(layer: Layer) -> Layer:
    """Pass g through a layer unchanged: dx = g.

    Args:
        layer: whose y has the shape of its x, such as rounding, or a ReLU whose units must not die.

    Source:
        Bengio, Leonard and Courville, "Estimating or Propagating Gradients Through Stochastic
        Neurons for Conditional Computation", 2013.

    Example:
        >>> net, x = straight_through(lf.relu()), torch.tensor([-2.0, 3.0])
        >>> net.input_grad((), net.forward((), x)[1], torch.tensor([5.0, 7.0]))
        tensor([5., 7.])
    """
    return around(straight_through, layer, back=pass_on, mask="part")
