"""One walk back through a network, which finds the terms of all its parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Explicit, Layer, LayerError, Params, Term, no_batch, tree
from lincoln_fn.per_example import forms
from lincoln_fn.per_example.checks import check_axes, check_independent, examples_in
from lincoln_fn.walk import Composition, is_trained
from lincoln_fn.walk.internal import DPARAMS, Wants, untrained, walk_back


def terms_of(name: str, net: Layer, params: Params, cache: Cache, g: Arrays) -> Params:
    """Find the term of each parameter, in float32 at least; `name` asks, for errors."""
    core.check_argument(name, "net", Layer, net, ("net", "params", "cache", "g"))
    check_independent(net)
    leaf = partial(_leaf, count=examples_in(g))
    gather = Composition.gathered
    _, terms = walk_back(leaf, net, params, cache, g, DPARAMS, skip=untrained, gather=gather)
    # Of half precision, in which the sums are not computed.
    return tree.map(lambda p, t: t if p.dtype.itemsize > 2 else t.to(torch.float32), params, terms)


def _leaf(
    layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants, *, count: int
) -> tuple[Arrays, Params]:
    check_axes(layer, params, cache, g)
    if not (wants.dparams and is_trained(params)):
        return (layer.input_grad(params, cache, g) if wants.dx else None), params
    return dx_and_terms(layer, params, cache, g, count, dx=wants.dx)


def dx_and_terms(
    layer: Layer, params: Params, cache: Cache, g: Arrays, count: int, *, dx: bool
) -> tuple[Arrays, Params]:
    """Compute dx of a single layer if it is wanted, and the terms that it declares, or any."""
    declared = core.gradients_of(layer)
    if declared.dx_and_terms is not None:
        of_x, terms = declared.dx_and_terms(params, cache, g)
    else:
        of_x = layer.input_grad(params, cache, g) if dx else None
        if declared.terms is not None:
            terms = declared.terms(params, cache, g)
        else:
            terms = _one_by_one(layer, params, cache, g, count)
    for term in tree.leaves(terms):
        if isinstance(term, Term) and term.count != count:
            problem = f"expected {count} examples on axis 0, as the network's g has"
            raise LayerError(layer.name, f"{problem}, got {term.count}")
    return of_x, terms


def _one_by_one(layer: Layer, params: Params, cache: Cache, g: Arrays, count: int) -> Params:
    """Compute the gradients of a layer that declares no terms.

    `grads` is linear in g, so example n's is that of a g which is zero for all others.
    """
    for leaf in tree.leaves(g):
        if leaf.ndim == 0 or len(leaf) != count:
            raise no_batch(layer.name, leaf)

    def alone(n: int) -> Params:
        def masked(leaf: Tensor) -> Tensor:
            at = torch.tensor([n], device=leaf.device)
            return torch.zeros_like(leaf).index_copy(0, at, leaf[n : n + 1])

        return layer.grads(params, cache, tree.map(masked, g))

    each = [alone(n) for n in range(count)]
    return tree.map(lambda _, *leaves: Explicit(torch.stack(leaves)), params, *each)


def map_terms(f: Callable[[Term, Tensor], Term | Tensor], params: Params, terms: Params) -> Params:
    """Map the terms of the parameters; what no example enters stays, and has the gradient 0."""
    return tree.map(lambda p, term: f(term, p) if isinstance(term, Term) else term, params, terms)


def measure(params: Params, terms: Params, g: Arrays) -> tuple[Float[Tensor, " N"], Params]:
    """Compute the squared norms, and return the terms with the gradients that this needed."""
    norms: list[Tensor] = []

    def of_one(term: Term, p: Tensor) -> Term:
        of_term, term = forms.measure(term, p)
        norms.append(of_term)
        return term

    terms = map_terms(of_one, params, terms)
    return reduce(torch.add, norms) if norms else tree.leaves(g)[0].new_zeros(examples_in(g)), terms


def sum_weighted(params: Params, terms: Params, weights: Float[Tensor, " N"]) -> Params:
    """Compute the weighted sum of each parameter's gradients, of half precision in float32."""

    def total(term: Term, p: Tensor) -> Tensor:
        return forms.weighted_sum(term, p, weights.to(torch.promote_types(p.dtype, torch.float32)))

    return map_terms(total, params, terms)
