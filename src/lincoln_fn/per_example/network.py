"""One walk back through a network finds the terms of all its parameters; what mixes is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Final

import attrs
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine import graph, inference, scan
from lincoln_fn.core import Arrays, Cache, Explicit, Layer, Params, Term, kind_of, tree, unexpected
from lincoln_fn.fastpath import gives_own_tokens
from lincoln_fn.layers import permute
from lincoln_fn.layers.batch_norm import batch_norm
from lincoln_fn.layers.linear_head import linear_head
from lincoln_fn.losses.internal import any_true
from lincoln_fn.per_example import forms
from lincoln_fn.walk import Composition, is_trained
from lincoln_fn.walk.internal import DPARAMS, Wants, composition_of, untrained, walk_back

_EACH_ALONE: Final = "a layer that computes each example alone"


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
            expected = f"{count} examples on axis 0, as the network's g has"
            raise unexpected(layer.name, expected, term.count)
    return of_x, terms


def _one_by_one(layer: Layer, params: Params, cache: Cache, g: Arrays, count: int) -> Params:
    """Compute the gradients of a layer that declares no terms, each by a g of 0 for the others."""
    for leaf in tree.leaves(g):
        if leaf.ndim == 0 or len(leaf) != count:
            raise core.no_batch(layer.name, leaf)
    each = [layer.grads(params, cache, only(torch.arange(count) == n, g)) for n in range(count)]
    return tree.map(lambda _, *leaves: Explicit(torch.stack(leaves)), params, *each)


def only(chosen: Bool[Tensor, " N"], g: Arrays) -> Arrays:
    """Return the g of the chosen examples, and 0 for the others."""

    def masked(leaf: Tensor) -> Tensor:
        others = ~chosen.to(leaf.device).view(-1, *[1] * (leaf.ndim - 1))
        return leaf.masked_fill(others, 0)

    return tree.map(masked, g)


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


def check_independent(net: Layer, position: str = "") -> None:
    """Check that no layer of a network, at a position in one around it, mixes the examples."""
    composed, where = composition_of(net), f"{position}{net.name}"
    if composed is not None:
        arguments = net.spec.arguments if net.spec is not None else {}
        if arguments.get("batch_first") is False:
            raise core.length_first(where, "batch_first=True")
        if core.made_by(net, scan) and arguments["dim"] == 0:
            raise core.length_first(where, "dim=1")
        if core.made_by(net, graph):
            got = "an expression, which may work over the batch"
            mend = "compose the layers by serial and branch"
            raise unexpected(where, "layers that compute each example alone", got, mend)
        if gives_own_tokens(net):
            got = "experts that get their own tokens"
            raise unexpected(where, "parts that get all examples", got, "leave out lf.fast")
        for i, part in enumerate(composed.parts):
            check_independent(part, f"{position}{composed.label}[{i}] ")
        return
    if _mixes(net):
        mend = "use group_norm, layer_norm or inference(batch_norm())"
        raise unexpected(where, _EACH_ALONE, "one that normalises over the batch", mend)
    if core.made_by(net, linear_head):
        mend = "write dense and softmax_cross_entropy"
        raise unexpected(where, _EACH_ALONE, "one whose loss has added up the examples", mend)
    if _moves(net):
        expected = "the examples on axis 0 of every layer's output"
        raise unexpected(where, expected, "a layer that moves them", "leave axis 0 where it is")


def _moves(layer: Layer) -> bool:
    if core.file_of_forward(layer) is not permute:
        return False
    if layer.spec is None:
        got, mend = "one that moves what it is given", "make it by its constructor"
        raise unexpected(layer.name, "a layer whose axes are known", got, mend)
    dims = layer.spec["dims"]
    return bool(dims[0] % len(dims))


def _mixes(layer: Layer) -> bool:
    if layer.spec is not None and layer.spec.of is inference:
        spec = layer.spec["layer"].spec  # without running statistics, it is as in training
        return spec is not None and spec.of is batch_norm and not spec["track_running_stats"]
    return kind_of(layer) == "batch_norm"


def check_axes(layer: Layer, params: Params, cache: Cache, g: Arrays) -> None:
    """Check that no layer works along axis 0, which is that of the examples."""
    for leaf in tree.leaves(g)[:1]:
        if leaf.ndim < _least_axes(layer, params, cache):
            raise core.no_batch(layer.name, leaf)
        if 0 in _axes_of(layer, cache, leaf):
            raise unexpected(layer.name, _EACH_ALONE, "one along their axis", "use another dim")
    if getattr(cache, "batch_axis", 0) == 1:
        raise core.length_first(layer.name, "batch_first=True")
    if kind_of(layer) is None and not core.is_traced(*tree.leaves(g)):
        _try_alone(layer, params, cache, g)


def _try_alone(layer: Layer, params: Params, cache: Cache, g: Arrays) -> None:
    """Try whether the g of one example reaches the dx of others: the layer does not say.

    Tried are the first, one in the middle and the last: a layer may carry g in one direction.
    """
    count = examples_in(g)

    def drawn(leaf: Tensor) -> Tensor:
        # The numbers of g itself may be 0, and within vmap nothing that comes of them is read.
        return core.normal(core.Key(0).near(leaf), tuple(leaf.shape)).to(leaf.dtype)

    for i in sorted({0, count // 2, count - 1}):
        is_other = torch.arange(count) != i
        of_one = only(~is_other, tree.map(drawn, g))
        for leaf in tree.leaves(layer.input_grad(params, cache, of_one)):
            is_by_example = leaf.ndim and len(leaf) == count
            if is_by_example and any_true(leaf[is_other.to(leaf.device)] != 0):
                got = "one in which the g of one reaches the dx of others"
                raise unexpected(layer.name, _EACH_ALONE, got)


def _least_axes(layer: Layer, params: Params, cache: Cache) -> int:
    """Count the axes that y has at least, if axis 0 is that of the examples."""
    kind = kind_of(layer)
    if kind == "attention" or core.declared_by(layer.forward).along == "rows":
        return 3
    if kind == "convolution":
        return int(params.weight.ndim)
    if kind == "recurrent":
        return 3 if getattr(cache, "batch_axis", 0) is None else 2
    if kind == "norm" and isinstance(axes := getattr(cache, "axes", None), int):
        return axes + 1
    return 2 if kind == "dense" else 1


def _axes_of(layer: Layer, cache: Cache, g: Tensor) -> tuple[int, ...]:
    """List the axes of y that a layer adds up, mixes or moves elements along."""
    along = core.declared_by(layer.forward).along
    if along is None or along == "rows":
        return ()
    if attrs.has(type(cache)) and hasattr(cache, along):
        axes = getattr(cache, along)
    elif layer.spec is not None:
        axes = layer.spec[along]
    else:
        got, mend = "one that runs along an axis of its own", "make it by its constructor"
        raise unexpected(layer.name, "a layer whose axes are known", got, mend)
    axes = axes if isinstance(axes, tuple) else (axes,)
    return tuple(axis if axis >= 0 else axis % g.ndim for axis in axes if axis is not None)


def examples_in(g: Arrays) -> int:
    """Count the examples: axis 0 of g."""
    for leaf in tree.leaves(g):
        if isinstance(leaf, Tensor) and leaf.ndim:
            return len(leaf)
    raise core.unexpected("per_example", "g with the examples on axis 0", core.format_briefly(g))


def check_any(name: str, count: int) -> None:
    """Check that there is an example to take a mean over."""
    if not count:
        raise unexpected(name, "at least one example", "none")
