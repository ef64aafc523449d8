"""What a rule of relevance propagation is, and what all rules share.

A rule takes one use of a layer and the relevance R of its output y, and returns the relevance of
its input x. It shares R_j out to the x_i in proportion to their contributions z_ij to y_j:

    R_i = sum_j z_(ij) / (sum_n z_(nj)) R_j

Derivation. Most rules take contributions x_i W_ij of a linear map with some weights W. With
s_j = R_j / sum_n z_nj, the sum over j is the map's own backward, applied to s:

    R_i = x_i sum_j W_(ij) s_j = x_i "input_grad"(s)_i

So a rule calls the layer's own `forward` and `input_grad` with other params, and holds for dense
layers and all convolutions. If z is a sum of such terms, so is R_i.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.attribution._target import product
from lincoln_fn.core import Arrays, Cache, Layer, Params, evolve, format_briefly, tree, unexpected


@attrs.frozen(eq=False)
class Use:
    """One use of a single layer, as the forward walk recorded it."""

    layer: Layer
    params: Params
    x: Arrays
    y: Arrays
    cache: Cache


@attrs.frozen(eq=False, repr=False)
class Rule(core.Made):
    """A rule of relevance propagation.

    Args:
        name: the code that makes the rule, such as "gamma(0.25)"; its repr.
        propagate: (use, R) -> R of x, as the module says. R has y's structure, and the result has
            x's, with None for entries without relevance.

    Example:
        >>> Rule("nothing()", lambda use, relevance: torch.zeros_like(use.x))
        nothing()
    """

    name: str
    propagate: Callable[[Use, Arrays], Arrays]


def share(relevance: Tensor, total: Tensor, epsilon: float) -> Tensor:
    """Compute s = R / (z + epsilon sign(z)), with sign(0) = 1; 0 where the denominator is 0."""
    total = total + epsilon * torch.where(total < 0, -1.0, 1.0).to(total)
    return torch.where(total == 0, 0.0, relevance / torch.where(total == 0, 1.0, total))


Change: TypeAlias = Callable[[Tensor], Tensor]


def by_terms(
    use: Use, relevance: Arrays, stabilizer: float, *terms: tuple[Arrays, Params]
) -> Arrays:
    """Share by z, a sum of terms, each the layer's output for an x and params."""
    runs = [(x, params, *use.layer.forward(params, x)) for x, params in terms]
    s = share(relevance, reduce(torch.add, [z for _, _, z, _ in runs]), stabilizer)
    parts = [product(x, use.layer.input_grad(params, cache, s)) for x, params, _, cache in runs]
    return reduce(torch.add, parts)


def changed(use: Use, change: Change, zero_bias: bool = False) -> Params:
    """Change a layer's weights and biases, and make the bias 0 if asked to."""
    params = tree.map(change, use.params)
    bias = getattr(params, "bias", None)
    return evolve(params, bias=torch.zeros_like(bias)) if zero_bias and bias is not None else params


def one_input(use: Use) -> Tensor:
    """Return x of a layer that has one floating input."""
    if not isinstance(use.x, Tensor) or not use.x.is_floating_point():
        expected = "a layer with one floating input"
        mend = "its rule is for dense layers and convolutions"
        raise unexpected(use.layer.name, expected, format_briefly(use.x), mend)
    return use.x
