"""Batch norm after training, merged into the dense layer or convolution before it.

Derivation. By its running statistics, batch norm is an affine map of each channel o,
y_o = scale_o h_o + shift_o, and h = A x + b is the linear layer before it:

    scale = w / sqrt(var + epsilon)
    shift = b_"norm" - scale mean
    y = scale (A x + b) + shift = (scale A) x + (scale b + shift)

So params with these weights and biases, and a batch norm that changes nothing, make the same
network. Rules of relevance propagation then see the one linear layer that the two are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.attribution.kinds import LINEAR, NORM, kind_of
from lincoln_fn.combine import FrozenParams, checkpointed, frozen, inference, is_serial
from lincoln_fn.core import Layer, Params, Spec, checked, evolve, made_by
from lincoln_fn.layers import batch_norm, conv, conv_transpose, dense
from lincoln_fn.walk.internal import composition_of, gather_entries


@checked
def merge_batch_norm(net: Layer, params: Params) -> Params:
    """Make the params of the same network with each batch norm merged into the layer before it.

    Returns:
        Params for net. In a `serial` where a batch norm with running statistics follows a dense
        layer or a convolution, that layer has the product, and batch norm computes y = x in
        `predict`. All else is unchanged. Behind a dense layer, x must be (N, features): with more
        axes, batch norm has its channels on axis 1, which are not the layer's features.

    Example:
        >>> net = lf.serial(lf.dense(3), lf.batch_norm())
        >>> x = lf.keys.normal(lf.Key(1), (5, 2))
        >>> params = net.init(lf.Key(0), x)
        >>> params = net.advance(params, net.forward(params, x)[1])
        >>> merged = merge_batch_norm(net, params)
        >>> torch.allclose(net.parts[0].predict(merged[0], x), net.predict(params, x), atol=1e-6)
        True
    """
    return _merged(net, params)


def _merged(layer: Layer, params: Params) -> Params:
    composed = composition_of(layer)
    if composed is None:
        return params
    if made_by(layer, frozen):
        return FrozenParams(_merged(composed.parts[0], params.params))
    if made_by(layer, checkpointed):
        return _merged(composed.parts[0], params)
    if composed.gather is not gather_entries:  # params are not a tuple with an entry for each part
        return params
    entries = [_merged(part, entry) for part, entry in zip(composed.parts, params, strict=False)]
    if is_serial(layer):
        for i in range(1, len(entries)):
            linear, norm = composed.parts[i - 1 : i + 1]
            entries[i - 1 : i + 1] = _pair(linear, entries[i - 1], norm, entries[i])
    return tuple(entries)


def _spec_of(norm: Layer) -> Spec | None:
    if norm.spec is None or norm.spec.of is not inference:
        return norm.spec
    layer: Layer = norm.spec["layer"]
    return layer.spec


def _pair(linear: Layer, params: Params, norm: Layer, norm_params: Params) -> tuple[Params, Params]:
    """Give a linear layer the map of a batch norm, which becomes an identity; others stay."""
    is_own = isinstance(params, dense.Params | conv.Params | conv_transpose.Params)
    is_pair = is_own and kind_of(linear) in LINEAR and kind_of(norm) in NORM
    spec = _spec_of(norm) if is_pair and isinstance(norm_params, batch_norm.Params) else None
    if spec is None or linear.spec is None or norm_params.running is None:
        return params, norm_params
    running, eps = norm_params.running, spec["eps"]
    if isinstance(params, dense.Params) and params.weight.shape[1] != len(running.mean):
        return params, norm_params  # x has more axes than two, and its channels are others
    scale = (running.var + eps).rsqrt()
    if norm_params.weight is not None:
        scale = norm_params.weight * scale
    bias = -scale * running.mean if params.bias is None else scale * (params.bias - running.mean)
    if norm_params.bias is not None:
        bias = bias + norm_params.bias
    weight = params.weight * _by_output(scale, linear.spec, params)
    mean, var = torch.zeros_like(running.mean), torch.full_like(running.var, 1 - eps)
    without = batch_norm.Params(
        None if norm_params.weight is None else torch.ones_like(scale),
        None if norm_params.bias is None else torch.zeros_like(scale),
        evolve(running, mean=mean, var=var),
    )
    return evolve(params, weight=weight, bias=bias), without


def _by_output(scale: Tensor, spec: Spec, params: Params) -> Tensor:
    if isinstance(params, dense.Params):
        return scale
    spatial = (1,) * (params.weight.ndim - 2)
    if isinstance(params, conv.Params):
        return scale.view(-1, 1, *spatial)
    groups, (n_in, n_out) = spec["groups"], params.weight.shape[:2]
    by_group = scale.view(groups, 1, n_out).expand(groups, n_in // groups, n_out)
    return by_group.reshape(n_in, n_out, *spatial)
