"""Mixture of experts: of several layers, each token gets the sum of those that a router chooses.

A token is a vector of features: an entry of x along all axes but the last. For each token, with
S the k experts of the largest logits,

    z = "router"(x)
    p = "softmax"(z), over S alone, or over all experts
    w_i = p_i for i in S, else 0
    y = sum_i w_i "expert"_i(x)

Derivation. The choice S is constant where no two logits are equal. With h_i = expert_i(x),

    dh_i = w_i g                        and expert i derives dx_i and its gradients from it
    dw_i = sum_"features" g h_i
    dp_i = dw_i for i in S, else 0
    dz = p (dp - sum_j p_j dp_j)        as `softmax` derives it
    dx = dx_"router" + sum_i dx_i

Here each expert sees all tokens; `fastpath/table.py` gives an expert only its own.

Cache: those of the router and of the experts; p, S and all h_i.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Annotated, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine._wiring import wrong_output
from lincoln_fn.core import NOT_EMPTY, Arrays, Key, Layer, PositiveInt, record
from lincoln_fn.core import Params as AnyParams
from lincoln_fn.walk import Arrangement, VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import Record, one_part

Tokens: TypeAlias = Float[Tensor, "*batch features"]
Scores: TypeAlias = Float[Tensor, "*batch experts"]


@record
class Params:
    """The params of the router and of each expert."""

    router: AnyParams
    experts: tuple[AnyParams, ...]


@record
class Routing:
    """The probabilities p, the choice S, and the outputs of the experts."""

    p: Scores
    chosen: Bool[Tensor, "*batch experts"]
    h: tuple[Tokens, ...]


def _split(params: Params) -> tuple[AnyParams, ...]:
    return params.router, *params.experts


def _join(parts: tuple[AnyParams, ...], params: Params | None) -> Params:
    return Params(parts[0], parts[1:])


_ARRANGEMENT = Arrangement(_split, _join)


def route(
    visit: VisitThere, params: Params, x: Tokens, *, top_k: int, norm_topk_prob: bool
) -> tuple[Scores, Bool[Tensor, "*batch experts"], Record]:
    """Run the router, and compute p and S."""
    core.check_params(visit.label, params, Params)
    n_experts = len(visit.parts) - 1
    check_entries(visit.label, "params.experts", params.experts, n_experts)
    z, routed = visit(0, params.router, x)
    if not isinstance(z, Tensor) or z.shape[-1:] != (n_experts,):
        expected = f"the router to return (..., {n_experts}), a logit for each expert"
        raise core.unexpected("mixture_of_experts[0]", expected, core.format_briefly(z))
    chosen = torch.zeros_like(z, dtype=torch.bool).scatter(-1, z.topk(top_k, -1).indices, True)
    p = (z.masked_fill(~chosen, -torch.inf) if norm_topk_prob else z).softmax(-1)
    return p, chosen, routed


def scores_back(routing: Routing, dw: Scores) -> Scores:
    """Compute dz = p (dp - sum_j p_j dp_j)."""
    dp = dw * routing.chosen
    return routing.p * (dp - (routing.p * dp).sum(-1, keepdim=True))


def check_outputs(visit: VisitThere, h: tuple[Tokens, ...]) -> None:
    """Check that all experts return as many features, and not ones that broadcast."""
    for i, h_i in enumerate(h):
        if h_i.shape[-1:] != h[0].shape[-1:]:
            expected = f"{h[0].shape[-1]} features as the first expert returns"
            raise wrong_output(visit, i + 1, expected, h_i.shape)


def check_g(visit: VisitBack, routing: Routing, g: Tokens) -> None:
    """Check that g has y's shape."""
    shape = (*routing.p.shape[:-1], *routing.h[0].shape[-1:])
    core.check_cotangent(visit.label, g, routing.h[0], shape)


def there(
    visit: VisitThere, params: Params, x: Tokens, *, top_k: int, norm_topk_prob: bool
) -> tuple[Tokens, Record]:
    """Compute y = sum_i w_i expert_i(x)."""
    p, chosen, routed = route(visit, params, x, top_k=top_k, norm_topk_prob=norm_topk_prob)
    w = p * chosen
    h, records = zip(*(visit(i + 1, e, x) for i, e in enumerate(params.experts)), strict=True)
    check_outputs(visit, h)
    y = reduce(
        torch.add, (w_i.unsqueeze(-1) * h_i for w_i, h_i in zip(w.unbind(-1), h, strict=True))
    )
    return y, (routed, *records, Routing(p, chosen, h))


def back(visit: VisitBack, params: Params, cache: Record, g: Tokens) -> tuple[Arrays, Record]:
    """Compute dh_i = w_i g for the experts, and dz for the router; dx is the sum of theirs."""
    n = len(visit.parts) - 1
    core.check_params(visit.label, params, Params)
    check_entries(visit.label, "the cache", cache, n + 2)
    routing = cache[n + 1]
    core.check_cache(visit.label, routing, Routing)
    check_g(visit, routing, g)
    w = (routing.p * routing.chosen).unbind(-1)
    pairs = [
        visit(i + 1, entry, cache[i + 1], w[i].unsqueeze(-1) * g)
        for i, entry in enumerate(params.experts)
    ]
    dz = scores_back(routing, torch.stack([(g * h).sum(-1) for h in routing.h], -1))
    first, routed = visit(0, params.router, cache[0], dz)
    dx = None if first is None else reduce(torch.add, (dx for dx, _ in pairs), first)
    return dx, (routed, *(record for _, record in pairs))


def _init(parts: tuple[Layer, ...], key: Key, x: Tokens) -> Params:
    return _join(tuple(part.init(key.fold_in(i), x) for i, part in enumerate(parts)), None)


@core.constructor
def mixture_of_experts(
    router: Layer,
    experts: Annotated[tuple[Layer, ...], NOT_EMPTY],
    *,
    top_k: PositiveInt = 2,
    norm_topk_prob: bool = True,
) -> Layer:
    """Let a router choose, for each token, which experts compute its output, and with what weight.

    y = sum_i w_i expert_i(x) over the `top_k` experts of the largest logits. x has shape
    (..., features); an entry of it along all but the last axis is a token.

    `make_step`, `fit`, `lf.decode` and `lf.fast` give each expert only the tokens that chose it. In
    `forward` itself, in a compiled graph, whose shapes are fixed, and in a step with a gradient of
    its own, such as `per_example.clipped`, each expert sees all tokens, and the weights of the
    others are 0: the same number, for more work. So it is if an expert

    - is not made of dense layers and activations alone, since it may mix tokens;
    - has dropout, which has to draw the same masks in both;
    - has an output that `lf.tapped` takes.

    A router sends ever more tokens to the experts that are already good. `losses.router_balance` is
    against that; `lf.tapped(net, "*.router")` gives it the logits.

    Args:
        router: from tokens to logits (..., number of experts), such as `dense(8, bias=False)`.
        experts: the layers, each from (..., features) to one shape, such as `(swiglu(64),) * 8`.
        norm_topk_prob: whether the weights of a token's experts sum to 1. If not, they are the
            probabilities among all experts.

    Returns:
        The layer. Its params are `combine.mixture_of_experts.Params`; its parts are named "router",
        "experts.0", "experts.1" and so on.

    Source:
        Shazeer and others, "Outrageously Large Neural Networks: The Sparsely-Gated
        Mixture-of-Experts Layer", 2017. Jiang and others, "Mixtral of Experts", 2024.

    Example:
        >>> net, x = mixture_of_experts(lf.dense(4), (lf.swiglu(8),) * 4), torch.ones(2, 5, 3)
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([2, 5, 3])
    """
    n = len(experts)
    core.require(
        top_k <= n, "mixture_of_experts", f"top_k of at most {n}, one for each expert", top_k
    )
    names = ("router", *(f"experts.{i}" for i in range(n)))
    return core.bare(
        partial(composition, parts=(router, *experts), arrange=_ARRANGEMENT, names=names),
        there=there, back=back, init=_init, needs_dx=one_part.needs_dx,
    )  # fmt: skip
