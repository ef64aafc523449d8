"""Plain SGD as the walk back goes: W - lr dW, the product added to W as it is made.

The gradient of a large matrix is as large as the matrix. Added to W as it is computed, it takes no
memory of its own, and no second pass. On one thread of a Zen 5 a step of logistic, mlp-small and
mlp takes 1 / 1.15 to 1 / 1.2 of the time.
"""

from __future__ import annotations

from functools import partial

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


def plain_rate(optimizer: Optimizer) -> float | None:
    """Return the learning rate of an update that is params - lr grads; None of any other.

    Example:
        >>> plain_rate(lf.optim.sgd(0.1)), plain_rate(lf.optim.sgd(0.1, momentum=0.9))
        (0.1, None)
    """
    update = optimizer.update
    if isinstance(update, partial) and update.func is plain_update:
        return float(update.keywords["lr"])
    return None


def sgd_walker(lr: float, *, donate: bool = False) -> BackWalker:
    """Make the walk back that updates each layer as it comes by, for `walk.training.records`.

    It owns the caches that it is given. Its record is the new parameters; of donated ones, in the
    same memory.
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
    if layer.grads is dense.grads:
        return dense.sgd_update(params, cache, g, lr, wants_dx=wants.dx, donate=donate)
    if wants.dx:
        dx, dparams = layer.backward(params, cache, g)
    else:
        dx, dparams = None, gradients(layer, params, cache, g)
    if not is_trained(params):
        return dx, params
    return dx, _stepped(layer.name, params, dparams, lr, donate)


def _unchanged(layer: Layer, path: str, params: Params) -> Params:
    return params


def _has_entries(layer: Layer) -> bool:
    """Return whether each parameter of a composition is used once, by the part of its entry."""
    return layer.composition is not None and layer.composition.gather is gather_entries


def _stepped(where: str, params: Params, dparams: Params, lr: float, donate: bool) -> Params:
    """Compute params - lr dparams; of donated params, in the same memory."""

    def new(p: Tensor, dp: object) -> Tensor:
        if not isinstance(dp, Tensor) or p.shape != dp.shape:
            shapes = f"{tuple(p.shape)}, got {brief(dp)}"
            raise LayerError(where, f"expected a gradient of its parameter's shape {shapes}")
        check_dtype(where, p, dp)
        return torch.sub(p, dp, alpha=lr, out=p.detach() if donate else None)

    try:
        return tree.map(new, params, dparams)
    except LayerError:
        raise
    except ValueError as error:
        problem = f"expected gradients of the parameters' structure; {error}"
        raise LayerError(where, problem) from error
