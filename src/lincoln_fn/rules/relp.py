"""Relevance as a backward rule: y = J x, with a J that each layer's backward applies.

The relevance of a layer's x is x J^T g, and it sums to that of y, g y, if y = J x. The derivative
of a layer has this property if f(c x) = c f(x), by Euler's theorem: a sum, a mean, a product with a
matrix, a ReLU, max-pooling, a layer that moves elements. It stays. For other layers, J is that of a
map which is linear in x if some factors count as constants.

Derivation. The standard deviation of a norm is a constant (LN-rule):

    y = (x - mean) rstd w + b    layer norm
    dx = rstd (g w - mean(g w))
    y = x rstd (o + w)    RMS norm
    dx = rstd g (o + w)

An activation multiplies x by f(x) / x (identity rule). At 0 this is f'(0), since f(0) = 0:

    y = f(x) / x x
    dx = g f(x) / x

The weights A of attention are constants, so that queries and keys have no relevance (AH-rule):

    y = A v
    dv = A^T g

In a product of n factors, each counts once with all others constant, so the sum over x is n y. Each
gets an n-th (half rule, for n = 2):

    y = x_1 x_2 ... x_n
    dx_i = 1/n g prod_(j != i) x_j

A bias is added to J x, and takes g b. So in a network of such layers

    sum g y = sum x dx + sum b db    over all biases b

The gradients of params are the layer's own, for the g of this rule.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import Tensor

from lincoln_fn import combine, core
from lincoln_fn.core import Arrays, Elements, Function, Layer, LayerError, Params, Rows, made_by
from lincoln_fn.layers import (
    attention_heads,
    layer_norm,
    rms_norm,
    scaled_dot_product_attention,
    timestep_embedding,
    vector_quantize,
)  # fmt: skip
from lincoln_fn.layers.common.normalisation import mean_over, scale_and_shift, widened
from lincoln_fn.walk.internal import map_paths

# Kinds of layers with f(c x) = c f(x), but for biases; an embedding's x has no relevance.
_LINEAR: Final = (
    "dense", "scores", "convolution", "dropout", "moving", "max_pool", "average", "addition",
    "embedding",
)  # fmt: skip
# Compositions whose own loops multiply outputs of their parts.
_OF_PRODUCTS: Final = (combine.coupling, combine.mixture_of_experts)
_NORMS: Final = (layer_norm, rms_norm)
_ATTENTION: Final = (attention_heads, scaled_dot_product_attention)
_REFUSED: Final = (timestep_embedding, vector_quantize)


@core.record
class Cache:
    """An activation's own cache, and f(x) / x."""

    own: core.Cache
    slope: Elements


def forward(params: Params, x: Elements, *, layer: Layer) -> tuple[Elements, Cache]:
    """Compute an activation's y, and f(x) / x, which is f'(0) where x is 0."""
    y, cache = layer.forward(params, x)
    at_zero = layer.input_grad(params, cache, torch.ones_like(y))
    return y, Cache(cache, torch.where(x == 0, at_zero, y / x))


core.declare(forward, kind="activation")


def input_grad(params: Params, cache: Cache, g: Elements) -> Elements:
    """Compute dx = g f(x) / x of an activation."""
    return g * cache.slope


def constant_rstd(params: Params, cache: core.Cache, g: Rows) -> Rows:
    """Compute dx of layer norm or RMS norm with rstd constant."""
    if isinstance(cache, rms_norm.Cache):
        dx_hat = scale_and_shift(widened(g), rms_norm.scale(params, cache.offset))
    else:
        dy = scale_and_shift(widened(g), params.weight)
        dx_hat = dy - mean_over(dy, tuple(range(-cache.axes, 0)))
    dx: Tensor = (cache.rstd * dx_hat).to(g.dtype)
    return dx


def only_values(
    params: Params, cache: core.Cache, g: Tensor, *, backward: Function
) -> tuple[Arrays, ...]:
    """Compute dx of attention with the weights constant: that of query, key and mask is 0."""
    dx: tuple[Arrays, ...]
    dx, _ = backward(params, cache, g, softmax_backward=_zeros)
    return dx


def _zeros(dweights: Tensor, weights: Tensor) -> Tensor:
    return torch.zeros_like(weights)


def share(params: Params, cache: core.Cache, g: Tensor, *, layer: Layer) -> tuple[Arrays, ...]:
    """Compute dx of a product: an n-th of the gradient for each of n factors."""
    dx = layer.input_grad(params, cache, g)
    return tuple(each / len(dx) for each in dx)


@core.checked
def relp(net: Layer, *, constant_weights: bool = True) -> Layer:
    """Send relevance back in place of the gradient: each layer's dx is J^T g, with y = J x.

    The network computes the same y, as after training: it is that of `inference(net)`. Another rule
    that it has stays in its place; `backpropagation` takes it out.

    Args:
        constant_weights: whether the weights of attention count as constants. If not, attention has
            its own gradient, so that queries and keys have an effect, and relevance is not
            conserved there.

    Raises:
        LayerError: for a layer that has no rule. That are batch norm, gated linear units, recurrent
            layers and recurrences, softmax on its own, activations with f(0) != 0, `coupling`,
            `mixture_of_experts`, and layers that declare no kind.

    Source:
        Rezaei Jafari, Eberle, Khakzar and Nanda, "RelP: Faithful and Efficient Circuit Discovery in
        Language Models via Relevance Patching", 2025, arXiv 2508.21258; Achtibat and others,
        "AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers", ICML 2024,
        arXiv 2402.05602 (norms, activations and products).

    Example:
        >>> net, x = relp(lf.swiglu(4)), torch.ones(1, 3)
        >>> y, cache = net.forward(params := net.init(lf.Key(0), x), x)
        >>> torch.allclose((net.input_grad(params, cache, y) * x).sum(), (y * y).sum())
        True
    """
    return map_paths(partial(_with_rule, constant_weights=constant_weights), combine.inference(net))


def _with_rule(layer: Layer, path: str, *, constant_weights: bool) -> Layer:
    if made_by(layer, relp):
        layer = layer.spec["net"]  # type: ignore[index]  # made_by: it has a spec
    if made_by(layer, *_OF_PRODUCTS):
        raise _refusal(layer, path, "its own loops multiply outputs of its parts")
    kind, file = core.kind_of(layer), core.file_of_forward(layer)
    is_same = (kind in _LINEAR and file not in _REFUSED) or (
        kind == "attention" and not constant_weights
    )
    if is_same or layer.composition is not None:
        return layer
    if kind == "activation":
        changed = _around(layer, path)
    elif file in _NORMS:
        changed = layer.replace(input_grad=constant_rstd)
    elif file in _ATTENTION:
        changed = layer.replace(input_grad=partial(only_values, backward=file.backward))
    elif kind == "product":
        changed = layer.replace(input_grad=partial(share, layer=layer))
    else:
        raise _refusal(layer, path, "it has no rule")
    call = core.call_of(relp, layer, constant_weights=constant_weights)
    return changed.replace(name=call, spec=call)


def _around(layer: Layer, path: str) -> Layer:
    """Let an activation cache f(x) / x; f(0) has to be 0."""
    # One with params is a prelu, with f(0) = 0 for all params.
    at_zero = layer.predict((), torch.zeros(())).item() if core.has_no_params(layer) else 0.0
    if at_zero:
        raise _refusal(layer, path, f"f(0) is {at_zero:.6g}, so f(x) / x has no bound near 0")
    there = partial(forward, layer=layer)
    grads = partial(_of_own, function=layer.grads)
    return layer.replace(forward=there, input_grad=input_grad, grads=grads)


def _of_own(params: Params, cache: Cache, g: Elements, *, function: Function) -> Arrays:
    return function(params, cache.own, g)


def with_gradient(layer: Layer) -> Layer:
    """Return a layer of `relp` with its gradient in place, for the same params and caches."""
    if layer.spec is None or layer.spec.of is not relp:
        return layer
    own: Layer = layer.spec["net"]
    if core.kind_of(own) != "activation":
        return own
    dx = partial(_of_own, function=own.input_grad)
    return layer.replace(name=own.name, input_grad=dx, grads=layer.grads)


def _refusal(layer: Layer, path: str, reason: str) -> LayerError:
    where = " ".join(filter(None, ("relp:", path, layer.name)))
    mend = "put another layer in its place, or explain a part of the network without it"
    return LayerError(where, f"{reason}; {mend}")
