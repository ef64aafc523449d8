"""One walk back through a network, which finds the terms of all its parameters."""

from __future__ import annotations

from functools import partial, reduce

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.arguments import check_argument
from lincoln_fn.layer import Arrays, Cache, Layer, Params
from lincoln_fn.per_example.checks import check_axes, check_independent, examples_in
from lincoln_fn.per_example.table import BACKWARD, TERMS, key_of, own_terms
from lincoln_fn.per_example.terms import Term
from lincoln_fn.shapes import LayerError
from lincoln_fn.walk.composition import Composition
from lincoln_fn.walk.parts import is_trained
from lincoln_fn.walk.training import records
from lincoln_fn.walk.walks import BackWalker, Wants


def terms_of(name: str, net: Layer, params: Params, cache: Cache, g: Arrays) -> Params:
    """Find the term of each parameter of a network.

    Args:
        name: of the function that asks, for errors.
        net: the network.
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, with the examples on axis 0.

    Returns:
        A tree that mirrors params, of `Term`s; those of half precision are in float32. A plain
        tensor in it is zeros.

    Raises:
        LayerError: if a layer mixes examples, or has them on another axis than 0.
    """
    check_argument(name, "net", Layer, net, ("net", "params", "cache", "g"))
    check_independent(net)
    leaf = partial(_leaf, count=examples_in(g))
    walker = BackWalker(leaf, skip=_untrained, gather=Composition.gathered)
    return tree.map(_widened, params, records(walker, net, params, cache, g))


def _leaf(
    layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants, *, count: int
) -> tuple[Arrays, Params]:
    check_axes(layer, g)
    if not (wants.dparams and is_trained(params)):
        return (layer.input_grad(params, cache, g) if wants.dx else None), params
    key = key_of(layer)
    if key in BACKWARD:
        dx, terms = BACKWARD[key](params, cache, g)
    else:
        dx = layer.input_grad(params, cache, g) if wants.dx else None
        if key in TERMS:
            terms = TERMS[key](params, cache, g)
        else:
            terms = own_terms(layer, params, cache, g, count)
    for term in tree.leaves(terms):
        if isinstance(term, Term) and term.count != count:
            problem = f"expected {count} examples on axis 0, as the network's g has"
            raise LayerError(layer.name, f"{problem}, got {term.count}")
    return dx, terms


def _widened(p: Tensor, term: Term | Tensor) -> Term | Tensor:
    """Convert half precision to float32, in which the sums are computed."""
    return term if p.dtype.itemsize > 2 else term.to(torch.float32)


def _untrained(layer: Layer, path: str, params: Params) -> Params:
    return params


def measured(terms: Params, g: Arrays) -> tuple[Float[Tensor, " N"], Params]:
    """Compute the squared norms, and return the terms with the gradients that this needed."""
    norms: list[Tensor] = []

    def measure(term: Term | Tensor) -> Term | Tensor:
        if isinstance(term, Tensor):
            return term
        of_term, term = term.measured()
        norms.append(of_term)
        return term

    terms = tree.map(measure, terms)
    return reduce(torch.add, norms) if norms else tree.leaves(g)[0].new_zeros(examples_in(g)), terms


def summed(params: Params, terms: Params, weights: Float[Tensor, " N"]) -> Params:
    """Compute the weighted sum of each parameter's gradients, of half precision in float32."""

    def total(p: Tensor, term: Term | Tensor) -> Tensor:
        if isinstance(term, Tensor):
            return term
        return term.weighted_sum(weights.to(torch.promote_types(p.dtype, torch.float32)), p)

    return tree.map(total, params, terms)
