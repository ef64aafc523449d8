"""Plain SGD as the walk back goes: W - lr dW, the product added to W as it is made.

The gradient of a large matrix is as large as the matrix. Added to W as it is computed, it takes no
memory of its own, and no second pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.fastpath import dense
from lincoln_fn.layer import Arrays, Cache, Layer, Params
from lincoln_fn.optim import Optimizer
from lincoln_fn.optim.leaves import check_dtype
from lincoln_fn.optim.sgd import plain_update
from lincoln_fn.record import brief
from lincoln_fn.shapes import LayerError
from lincoln_fn.walk.composition import Composition, gather_entries
from lincoln_fn.walk.parts import is_trained
from lincoln_fn.walk.training import gradients
from lincoln_fn.walk.walks import BackWalker, Wants

# By a layer's `grads`: (params, cache, g, lr, wants_dx=, donate=) -> (dx, params). Any: each has
# its own params and cache.
_UPDATES: Final[dict[Callable[..., Any], Callable[..., Any]]] = {dense.grads: dense.sgd_update}


def plain_rate(optimizer: Optimizer) -> float | None:
    """Return the learning rate, if an optimizer's update is params - lr grads and nothing else.

    Args:
        optimizer: any.

    Returns:
        The number; None for any other optimizer.

    Example:
        >>> plain_rate(lf.optim.sgd(0.1)), plain_rate(lf.optim.sgd(0.1, momentum=0.9))
        (0.1, None)
    """
    update = optimizer.update
    if isinstance(update, partial) and update.func is plain_update:
        return float(update.keywords["lr"])
    return None


def sgd_walker(lr: float, *, donate: bool = False) -> BackWalker:
    """Make the walk back that updates each layer as it comes by.

    It owns the caches that it is given. Its record is the new parameters; of donated ones, in the
    same memory.

    Args:
        lr: the learning rate.
        donate: whether params may be updated in place.

    Returns:
        The walk, for `lincoln_fn.walk.training.records`.

    Example:
        >>> from lincoln_fn.walk.training import records
        >>> net, x = lf.serial(lf.dense(2)), torch.ones(1, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> cache, walker = net.forward(params, x)[1], sgd_walker(0.5)
        >>> (new,) = records(walker, net, params, cache, torch.ones(1, 2))
        >>> new.bias - params[0].bias
        tensor([-0.5000, -0.5000])
    """
    return BackWalker(
        partial(_updated, lr=lr, donate=donate),
        skip=_unchanged,
        owns_cache=True,
        gather=Composition.gathered,
        enters=_has_entries,
    )


def _updated(
    layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants,
    *, lr: float, donate: bool,
) -> tuple[Arrays, Params]:  # fmt: skip
    update = _UPDATES.get(layer.grads)
    if update is not None:
        pair: tuple[Arrays, Params] = update(params, cache, g, lr, wants_dx=wants.dx, donate=donate)
        return pair
    if wants.dx:
        dx, dparams = layer.backward(params, cache, g)
    else:
        dx, dparams = None, gradients(layer, params, cache, g)
    if not is_trained(params):
        return dx, params
    return dx, stepped(layer.name, params, dparams, lr, donate)


def _unchanged(layer: Layer, path: str, params: Params) -> Params:
    return params


def _has_entries(layer: Layer) -> bool:
    """Return whether each parameter of a composition is used once, by the part of its entry."""
    return layer.composition is not None and layer.composition.gather is gather_entries


def stepped(where: str, params: Params, dparams: Params, lr: float, donate: bool) -> Params:
    """Compute params - lr dparams.

    Args:
        where: the layer's name.
        params: its parameters.
        dparams: their gradients.
        lr: the learning rate.
        donate: whether params may be updated in place.

    Returns:
        The new parameters; of donated ones, in the same memory.

    Raises:
        LayerError: if the gradients do not mirror the parameters, or have another dtype.

    Example:
        >>> stepped("mine", (torch.tensor([3.0]),), (torch.tensor([2.0]),), 0.5, False)
        (tensor([2.]),)
    """

    def new(p: Tensor, dp: object) -> Tensor:
        if not isinstance(dp, Tensor) or p.shape != dp.shape:
            shapes = f"{tuple(p.shape)}, got {brief(dp)}"
            raise LayerError(where, f"expected a gradient of its parameter's shape {shapes}")
        check_dtype(where, p, dp)
        return torch.sub(p, dp, alpha=lr, out=p.detach() if donate else None)

    try:
        return tree.map(new, params, dparams)
    except ValueError as error:
        if isinstance(error, LayerError):
            raise
        raise LayerError(
            where, f"expected gradients of the parameters' structure; {error}"
        ) from error
