"""Stochastic depth: each example's y is 0 with probability p, and x / (1 - p) otherwise.

It stands at the end of a residual branch, so that an example skips the branch at random. The
expectation of y is x, and `predict` is the identity.

Derivation. The mask, one number for each example or one for all, does not depend on x. With
scale = 1 / (1 - p), or 0 where p = 1,

    y_(ni) = x_(ni) mask_n scale
    dx_(ni) = g_(ni) mask_n scale

This is dropout's own `backward`. Params, `init` and `advance` are dropout's too.

Cache: the mask, and scale. Source: Huang and others, "Deep Networks with Stochastic Depth", 2016,
section 3.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from lincoln_fn.core import Elements, Layer, Probability, bare, constructor, declare, unexpected
from lincoln_fn.layers.dropout import Cache, Params, advance, as_it_is, backward, dropped, init

Mode: TypeAlias = Literal["row", "batch"]


def forward(params: Params, x: Elements, *, p: float, mode: Mode) -> tuple[Elements, Cache]:
    """Compute y = x mask scale, with a mask of one number for each example, or one for all."""
    if not x.ndim:
        raise unexpected("stochastic_depth", "x with the examples on axis 0", "shape ()")
    is_row = mode == "row"
    key = params.key if is_row else params.key.for_all()
    return dropped(key, x, p, spatial=x.ndim - 1 if is_row else x.ndim)


def predict(params: Params, x: Elements, *, p: float, mode: Mode) -> Elements:
    """Return x itself."""
    return x


declare(predict, kind="dropout", at_inference=as_it_is(predict))


@constructor(kind="dropout")
def stochastic_depth(p: Probability, mode: Mode = "row") -> Layer:
    """Drop whole examples with probability p and scale up the rest, behind a residual branch.

    x has shape (N, ...), and y has the same. `predict` returns x itself. Its params are
    `layers.dropout.Params`, the key of the next mask.

    Args:
        mode: "row" draws for each example, "batch" once for all.

    Example:
        >>> stochastic_depth(0.5).forward(Params(lf.Key(0)), torch.ones(3, 2))[0]
        tensor([[0., 0.],
                [2., 2.],
                [2., 2.]])
    """
    return bare(Layer, forward, backward, init, predict=predict, advance=advance)
