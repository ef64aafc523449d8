"""A layer from any differentiable torch function, for functions without a backward by hand.

Derivation. With y = f(params, x), `torch.func.vjp` gives g^T df/dparams and g^T df/dx by running f
again under autograd. So the cache is x alone, and `backward` is as pure as f.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import optree
import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Arrays, Layer, Params, no_params
from lincoln_fn.core.record import EVERYTHING, record
from lincoln_fn.errors.shapes import check_cache, check_params


@record
class Given:
    """The input, from which `backward` computes f again."""

    x: Arrays


# (params, x) -> y
Applied: TypeAlias = Callable[[Params, Arrays], Arrays]


def _apply(
    f: Callable[..., Arrays], has_params: bool, name: str, params: Params, x: Arrays
) -> Arrays:
    if has_params:
        return f(params, x)
    check_params(name, params, None)
    return f(x)


def _forward(run: Applied, params: Params, x: Arrays) -> tuple[Arrays, Given]:
    return run(params, x), Given(x)


def _backward(
    run: Applied, name: str, params: Params, cache: Given, g: Arrays
) -> tuple[Arrays, Params]:
    """Compute g^T df/dx and g^T df/dparams, by running f again under autograd."""
    check_cache(name, cache, Given)
    trained = tree.leaves(params)
    entries, form = optree.tree_flatten(cache.x, namespace=EVERYTHING)
    floating = [i for i, entry in enumerate(entries) if _is_floating(entry)]

    def of_leaves(*given: Tensor) -> Arrays:
        own, mine = iter(given[: len(trained)]), list(entries)
        for i, entry in zip(floating, given[len(trained) :], strict=True):
            mine[i] = entry
        x = optree.tree_unflatten(form, mine)
        return run(tree.map(lambda _: next(own), params), x)

    _, pull, *_ = torch.func.vjp(of_leaves, *trained, *(entries[i] for i in floating))
    grads = pull(g)
    dentries: list[Any] = [None] * len(entries)  # Any: a tensor, or None
    for i, dentry in zip(floating, grads[len(trained) :], strict=True):
        dentries[i] = dentry
    ours = iter(grads[: len(trained)])
    return optree.tree_unflatten(form, dentries), tree.map(lambda _: next(ours), params)


def _is_floating(entry: object) -> bool:
    return isinstance(entry, Tensor) and entry.is_floating_point()


def from_function(
    f: Callable[..., Arrays],
    init: Callable[[Key, Arrays], Params] | None = None,
    *,
    name: str | None = None,
) -> Layer:
    """Make a layer of a torch function, whose backward is autograd's.

    Args:
        f: x -> y, or with init (params, x) -> y. x and y are tensors or tuples of them, as in any
            layer. f must be pure: `backward` runs it again. It should read the tensors of `params`
            by field, position or name, as `init` made them.
        init: (key, x) -> params, where f has parameters.
        name: the layer's name; None gives one that contains f's name.

    Returns:
        The layer. dx has None for an entry of x that is not floating.

    Example:
        >>> layer = from_function(lambda x: torch.atan2(*x), name="atan2()")
        >>> y, cache = layer.forward((), (torch.tensor(1.0), torch.tensor(2.0)))
        >>> layer.backward((), cache, torch.tensor(1.0))
        ((tensor(0.4000), tensor(-0.2000)), ())
    """
    name = f"from_function({getattr(f, '__name__', repr(f))})" if name is None else name
    run: Applied = partial(_apply, f, init is not None, name)
    forward, backward = partial(_forward, run), partial(_backward, run, name)
    return Layer(name, forward, backward, no_params if init is None else init)
