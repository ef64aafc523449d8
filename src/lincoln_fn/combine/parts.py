"""What all combinators share: parts that say where they stand, and checks of their tuples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TypeVar

import torch
from torch import Tensor
from typing_extensions import ParamSpec

from lincoln_fn import tree
from lincoln_fn.layer import Cache, Layer, Params, unchanged
from lincoln_fn.record import State, brief
from lincoln_fn.shapes import LayerError, placed

P = ParamSpec("P")
R = TypeVar("R")


def placed_parts(combinator: str, layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Give layers whose errors say where in a composition they stand.

    Args:
        combinator: the composition's name, such as "serial".
        layers: its parts.

    Returns:
        The parts, with functions that raise `LayerError`s from "serial[0] dense(10)" and the like.

    Example:
        >>> part, = placed_parts("serial", [lf.dense(2)])
        >>> part.init(lf.Key(0), torch.zeros(()))
        Traceback (most recent call last):
        lincoln_fn.shapes.LayerError: serial[0] dense(2): expected x of shape (..., n_in), got ()
    """
    return tuple(_at(f"{combinator}[{i}]", layer) for i, layer in enumerate(layers))


def _at(position: str, layer: Layer) -> Layer:
    def guarded(doing: str, function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*arguments: P.args, **options: P.kwargs) -> R:
            try:
                return function(*arguments, **options)
            except LayerError as error:
                raise placed(error, position, layer.name) from error
            except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
                given = brief(arguments[-1])
                problem = f"{doing} raised {type(error).__name__} on {given}: {error}"
                raise LayerError(f"{position} {layer.name}", problem) from error

        return call

    return layer.replace(
        forward=guarded("forward", layer.forward),
        backward=guarded("backward", layer.backward),
        init=guarded("init", layer.init),
        predict=guarded("predict", layer.predict),
        input_grad=guarded("input_grad", layer.input_grad),
        grads=guarded("grads", layer.grads),
        advance=guarded("advance", layer.advance),
        descend=layer.descend and guarded("descend", layer.descend),
        empties_cache=layer.empties_cache,
    )


def check_entries(combinator: str, what: str, given: object, count: int) -> None:
    """Check that there is one entry a part, or that the cache is a list of such.

    Args:
        combinator: the composition's name.
        what: what has the entries.
        given: the tuple given.
        count: how many parts there are.

    Raises:
        LayerError: if it is no tuple, or one of another length.

    Example:
        >>> check_entries("serial", "params", ((), ()), 3)
        Traceback (most recent call last):
        lincoln_fn.shapes.LayerError: serial: expected params with 3 entries, got ((), ())
    """
    is_listed = type(given) is tuple or (what == "the cache" and type(given) is list)
    if not (isinstance(given, tuple | list) and is_listed and len(given) == count):
        entries = "1 entry" if count == 1 else f"{count} entries"
        raise LayerError(combinator, f"expected {what} with {entries}, got {brief(given)}")


def owned(layer: Layer, cache: Cache) -> Cache:
    """Give a cache that nobody else holds the form in which a composition lets go of it.

    Args:
        layer: whose cache it is.
        cache: what its `forward` returned.

    Returns:
        A list of the tuple's entries, if the layer empties such; else the cache.

    Example:
        >>> owned(lf.serial(lf.relu()), ("of the relu",)), owned(lf.relu(), "of the relu")
        (['of the relu'], 'of the relu')
    """
    return list(cache) if layer.empties_cache and type(cache) is tuple else cache


def taken(part: Layer, cache: Cache, i: int) -> Cache:
    """Take a part's cache: out of a list for good, and then in such a form itself.

    Args:
        part: the part.
        cache: the composition's; a tuple, or a list.
        i: which entry is the part's.

    Returns:
        The entry.

    Example:
        >>> caches = ["first", ("second",)]
        >>> taken(lf.serial(lf.relu()), caches, 1), caches
        (['second'], ['first', None])
    """
    if type(cache) is not list:
        return cache[i]
    entry, cache[i] = cache[i], None
    return owned(part, entry)


def is_still(layers: Iterable[Layer]) -> bool:
    """Tell whether no layer carries a state, so that there is nothing to advance.

    Args:
        layers: the parts of a composition.

    Returns:
        True if every `advance` is the default.

    Example:
        >>> is_still([lf.dense(2), lf.relu()])
        True
    """
    return all(layer.advance is unchanged for layer in layers)


def is_trained(params: Params) -> bool:
    """Tell whether parameters have any leaf that an optimizer moves.

    Args:
        params: of any layer.

    Returns:
        False for the empty tuple, for a `State`, and for trees of nothing else.

    Example:
        >>> is_trained(()), is_trained((torch.zeros(1),))
        (False, True)
    """
    if isinstance(params, Tensor):
        return True
    if isinstance(params, State) or (type(params) is tuple and not params):
        return False
    below = tree.children(params)
    return any(map(is_trained, below)) if below else bool(tree.leaves(params))


def moved_along(where: str, params: Params, dparams: Params, rate: float, donate: bool) -> Params:
    """Compute params - rate dparams.

    Args:
        where: the layer's position and name.
        params: its parameters.
        dparams: their gradients.
        rate: the step along the negative gradient.
        donate: whether params may be written over.

    Returns:
        The new parameters; of donated ones, in the same memory.

    Raises:
        LayerError: if the gradients do not mirror the parameters.

    Example:
        >>> moved_along("mine", (torch.tensor([3.0]),), (torch.tensor([2.0]),), 0.5, False)
        (tensor([2.]),)
    """

    def moved(p: Tensor, dp: object) -> Tensor:
        if not isinstance(dp, Tensor) or p.shape != dp.shape:
            shapes = f"{tuple(p.shape)}, got {brief(dp)}"
            raise LayerError(where, f"expected a gradient of its parameter's shape {shapes}")
        return torch.sub(p, dp, alpha=rate, out=p.detach() if donate else None)

    try:
        return tree.map(moved, params, dparams)
    except ValueError as error:
        if isinstance(error, LayerError):
            raise
        raise LayerError(
            where, f"expected gradients of the parameters' structure; {error}"
        ) from error
