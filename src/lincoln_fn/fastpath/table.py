"""The table of faster functions, one row for each layer, and `fast`, which applies it.

ReLU goes behind max-pooling, too. Derivation. ReLU is monotonic: max_i relu(x_i) = relu(max_i x_i).
The gradient goes to the same x_i: if the largest element exceeds 0, its ReLU is the largest, too;
otherwise the gradient is 0 in both orders. After the pooling there are fewer elements, a quarter
for windows of 2 x 2. Neither layer has params; only the caches differ.

An eager step of lenet-128 takes a fiftieth less time. A compiled step needs the pooling right after
the convolution, for `compiler/passes/pooling.py`, which says what that gains.

In a mixture of experts, the formula (`combine/mixture_of_experts.py`) gives every token to every
expert, with the weight 0 to those that were not chosen. Here an expert gets only its own: with 8
experts of which a token has 2, a quarter of the work. An expert that could mix tokens keeps the
formula: only dense layers, activations and the like, and the compositions of them, compute each
token alone.

How many tokens an expert gets depends on numbers. So the formula computes what a tracer, autograd
or torch.func sees, and what is on `meta`. An expert with a state, such as the key of dropout, keeps
it, too, for it would draw other masks; so does one of which `tapped` takes an output.
"""

from __future__ import annotations

from types import ModuleType
from typing import Final

import torch
from jaxtyping import Int64
from torch import Tensor

from lincoln_fn import combine, core
from lincoln_fn.combine import Params, Routing, Tokens, fixed_point, graph, is_serial, ode, scan
from lincoln_fn.combine.mixture_of_experts import back as formula_back
from lincoln_fn.combine.mixture_of_experts import there as formula_there
from lincoln_fn.core import Layer, checked, file_of, made_by
from lincoln_fn.fastpath import (
    activations,
    attention,
    convolution,
    embedding,
    linear_scan,
    lstm,
    normalisation,
    pooling,
    product,
)
from lincoln_fn.fastpath.twin import Argument, Twin
from lincoln_fn.layers import add, identity, max_pool, multiply, scale
from lincoln_fn.layers.relu import relu
from lincoln_fn.walk import VisitBack, VisitThere, check_entries
from lincoln_fn.walk.internal import Record, composition_of, map_paths

# Layers that compute each row alone. A dropout that has no state, as in `predict`, has no mask.
_KINDS: Final = ("dense", "activation", "dropout")
_PLAIN: Final = (add.add, identity.identity, multiply.multiply, scale.scale)
# Compositions that do more than to string their parts together.
_MIXING: Final = (fixed_point, graph, ode, scan)


@core.record
class Dispatch:
    """The routing of tokens, and the rows that each expert got."""

    routing: Routing
    rows: tuple[Int64[Tensor, " tokens"], ...]


def give_own_tokens(layer: core.Layer) -> core.Layer:
    """Make a mixture of experts whose experts get only their tokens; any other layer stays."""
    made = composition_of(layer)
    if made is None or made.back is not formula_back:
        return layer
    is_tapped = any(i > 0 for i in made.taps)
    if is_tapped or not all(map(_is_by_token, made.parts[1:])):
        return layer
    return layer.rebuild(made.parts, there=core.bind_like(there, made.there), back=back)


def gives_own_tokens(layer: core.Layer) -> bool:
    """Return whether `give_own_tokens` has made a layer."""
    made = composition_of(layer)
    return made is not None and made.back is back


def _is_by_token(expert: core.Layer) -> bool:
    made = composition_of(expert)
    if expert.advance is not core.unchanged:
        return False
    if made is None:
        return core.kind_of(expert) in _KINDS or core.made_by(expert, *_PLAIN)
    is_plain_loop = core.is_ours(made.there) and not core.made_by(expert, *_MIXING)
    return is_plain_loop and all(map(_is_by_token, made.parts))


def there(
    visit: VisitThere,
    params: Params,
    x: Tokens,
    **options: Argument,
) -> tuple[Tokens, Record]:
    """Compute y = sum_i w_i expert_i(x), by the rows of each expert."""
    if not isinstance(x, Tensor) or x.is_meta or not core.is_plain(x):
        return formula_there(visit, params, x, **options)
    p, chosen, routed = combine.route(visit, params, x, **options)
    n = p.shape[-1]
    rows = [of_expert.nonzero().squeeze(-1) for of_expert in chosen.reshape(-1, n).unbind(-1)]
    tokens, w = x.reshape(-1, x.shape[-1]), p.reshape(-1, n)
    visits = (
        visit(i + 1, entry, tokens[own])
        for i, (entry, own) in enumerate(zip(params.experts, rows, strict=True))
    )
    h, records = zip(*visits, strict=True)
    combine.check_outputs(visit, h)
    y = h[0].new_zeros(len(tokens), h[0].shape[-1])
    for i, (own, h_i) in enumerate(zip(rows, h, strict=True)):
        y.index_add_(0, own, w[own, i].unsqueeze(-1) * h_i)
    dispatch = Dispatch(Routing(p, chosen, h), tuple(rows))
    return y.view(*x.shape[:-1], y.shape[-1]), (routed, *records, dispatch)


def back(visit: VisitBack, params: Params, cache: Record, g: Tokens) -> tuple[core.Arrays, Record]:
    """Compute the gradients of each expert at its rows, and dz of the router."""
    n = len(visit.parts) - 1
    check_entries(visit.label, "the cache", cache, n + 2)
    dispatch = cache[n + 1]
    if not isinstance(dispatch, Dispatch):
        return formula_back(visit, params, (*(cache[i] for i in range(n + 1)), dispatch), g)
    routing = dispatch.routing
    combine.check_g(visit, routing, g)
    gs = g.reshape(-1, g.shape[-1])
    p = routing.p.reshape(-1, n)
    dw, dx, records = torch.zeros_like(p), None, []
    for i, (entry, own) in enumerate(zip(params.experts, dispatch.rows, strict=True)):
        g_i = gs[own]
        dw[own, i] = (g_i * routing.h[i]).sum(-1)
        dx_i, record = visit(i + 1, entry, cache[i + 1], p[own, i].unsqueeze(-1) * g_i)
        if dx_i is not None:
            dx = dx_i.new_zeros(len(gs), dx_i.shape[-1]) if dx is None else dx
            dx.index_add_(0, own, dx_i)
        records.append(record)
    dz = combine.scores_back(routing, dw.view(routing.p.shape))
    first, routed = visit(0, params.router, cache[0], dz)
    whole = None if first is None or dx is None else first + dx.view(first.shape)
    return whole, (routed, *records)


TWINS: Final[tuple[Twin, ...]] = (
    *activations.TWINS, *attention.TWINS, *convolution.TWINS,
    *embedding.TWINS, *linear_scan.TWINS, *lstm.TWINS, *normalisation.TWINS, *pooling.TWINS,
    *product.TWINS,
)  # fmt: skip
_BY_FILE: Final[dict[ModuleType | None, Twin]] = {twin.formula: twin for twin in TWINS}


@checked
def fast(net: Layer) -> Layer:
    """Make the same network of faster functions: the same params, y, dx and dparams.

    `make_step`, `fit` and `compile` call it by themselves, unless told `fast=False`. A layer whose
    functions are a user's own stays as it is. Caches may hold other tensors than those of net.

    Example:
        >>> net = lf.serial(lf.dense(10), lf.relu())
        >>> fast(net)
        serial(dense(10), relu())
    """
    return map_paths(lambda layer, path: give_own_tokens(layer), fast_by_example(net))


def fast_by_example(net: Layer) -> Layer:
    """Make the network of faster functions in which each part still gets all examples."""
    return _faster(rearrange(net))


def _faster(layer: Layer) -> Layer:
    if layer.composition is not None:
        return layer.rebuild(tuple(map(_faster, layer.parts)))
    twin = _BY_FILE.get(file_of(layer))
    return layer if twin is None else twin.faster(layer)


def rearrange(net: Layer) -> Layer:
    """Exchange every ReLU of this library and the max-pooling that follows it."""
    parts = [rearrange(part) for part in net.parts]
    if is_serial(net):
        for i in range(len(parts) - 1):
            if made_by(parts[i], relu) and _is_max_pool(parts[i + 1]):
                parts[i], parts[i + 1] = parts[i + 1], parts[i]
    is_same = all(new is old for new, old in zip(parts, net.parts, strict=True))
    return net if is_same else net.rebuild(tuple(parts))


def _is_max_pool(layer: Layer) -> bool:
    """Return whether a layer is max-pooling whose windows all contain some of x."""
    if layer.spec is None or file_of(layer) is not max_pool or layer.spec["return_indices"]:
        return False
    is_padded = layer.spec["padding"] not in (0, (0,), (0, 0), (0, 0, 0))
    return not is_padded or layer.spec["dilation"] in (1, (1,), (1, 1), (1, 1, 1))
