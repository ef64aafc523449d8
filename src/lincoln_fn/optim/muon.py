"""Muon: steps along a momentum whose matrix is made nearly orthogonal.

For a momentum M = U S V^T the step goes along U V^T, whose singular values are all 1, so that all
directions of the weight are learned equally fast. It is computed without a decomposition. With
X = M / |M|, each pass

    X <- a X + (b A + c A^2) X,   A = X X^T

keeps U and V, and maps each singular value s to a s + b s^3 + c s^5. With the coefficients below
this is steep at 0: five passes move all except the smallest into about [0.68, 1.13].

Adjoint. For the step, with f as below and O the nearly orthogonal matrix of n, which is b or, for
Nesterov's variant, momentum b + (1 - momentum) dp of the new b, from the last line up,

    bar lr = -sum (f O + weight_decay p) bar p
    bar O = -lr f bar p
    bar n = the passes' adjoint of bar O
    bar b += bar n,    or momentum bar n, and bar dp = (1 - momentum) bar n
    bar dp += (1 - momentum) bar b
    bar b <- momentum bar b
    bar p <- (1 - lr weight_decay) bar p

For a pass Y = a X + B X, B = b A + c A^2. A and B are symmetric, so

    bar B = bar Y X^T
    bar A = b bar B + c (A bar B + bar B A)
    bar X = a bar Y + B bar Y + (bar A + bar A^T) X

and for X = M / |M|

    bar M = (bar X - X sum X bar X) / |M|

The adjoint is that of the passes without the rounding of bfloat16: it runs in float32 at least.
"""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Epsilon, NonNegative, NonNegativeInt, Params, Probability, record
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import running_mean, take_step

# The coefficients of the source given below.
COEFFICIENTS: Final = (3.4445, -4.775, 2.0315)
Coefficients: TypeAlias = tuple[float, float, float]
Adjustment: TypeAlias = Literal["original", "match_rms_adamw"]


@record
class MuonState:
    """The step for a schedule, else None, and the momentum."""

    step: Tensor | None
    momentum: Params


def check_matrices(name: str, params: Params) -> None:
    """Refuse parameters that are no matrices."""
    for path, leaf in core.named_leaves(params):
        if leaf.ndim != 2:
            mend = "give it to another optimizer by by_path"
            raise core.unexpected(name, "matrices", f"{path} of shape {tuple(leaf.shape)}", mend)


def rules(
    at: At,
    *,
    momentum: float,
    nesterov: bool,
    ns_coefficients: Coefficients,
    eps: float,
    ns_steps: int,
    adjust_lr_fn: Adjustment | None,
    dtype: torch.dtype,
) -> Rules:
    """Compute p <- p - lr f orthogonal(b)."""

    def moved(dp: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the new b and n."""
        b = running_mean(b, dp, momentum)
        return b, torch.lerp(dp, b, momentum) if nesterov else b

    def rule(p: Tensor, dp: Tensor, b: Tensor) -> Row:
        b, n = moved(dp, b)
        direction = orthogonalize(n, ns_coefficients, ns_steps, eps, dtype).to(p.dtype)
        return take_step(p, direction, at.lr * _factor(p, adjust_lr_fn)), b

    def adjoint(p: Tensor, dp: Tensor, b: Tensor, p_bar: Tensor, b_bar: Tensor) -> Row:
        new_b, n = moved(dp, b)
        f = _factor(p, adjust_lr_fn)
        direction, n_bar = orthogonalize_adjoint(
            n, -at.lr * f * p_bar, ns_coefficients, ns_steps, eps
        )
        b_bar = b_bar + (momentum if nesterov else 1) * n_bar
        of_momentum = (b - dp) * b_bar + ((new_b - dp) * n_bar if nesterov else 0)
        dp_bar = (1 - momentum) * (n_bar + b_bar if nesterov else b_bar)
        products = {"lr": -f * direction * p_bar, "momentum": of_momentum}
        return p_bar, dp_bar, momentum * b_bar, products

    return rule, adjoint


def _factor(p: Tensor, adjust_lr_fn: Adjustment | None) -> float:
    """Compute f, by which the learning rate of a weight is multiplied."""
    n_in, n_out = p.shape
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * math.sqrt(max(n_in, n_out))
    return math.sqrt(max(1, n_out / n_in))


def orthogonalize(
    matrix: Float[Tensor, "n m"],
    coefficients: Coefficients,
    steps: int,
    eps: float,
    dtype: torch.dtype,
) -> Float[Tensor, "n m"]:
    """Map a matrix U S V^T to about U V^T."""
    x = matrix.to(dtype)
    # A is the smaller of X X^T and X^T X, which is the same matrix for a transposed weight.
    tall = x.shape[0] >= x.shape[1]
    x = x.mT if tall else x
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        x = _pass(x, coefficients)[0]
    return x.mT if tall else x


def _pass(x: Tensor, coefficients: Coefficients) -> tuple[Tensor, Tensor, Tensor]:
    """Compute Y = a X + B X, A and B."""
    a, b, c = coefficients
    gram = x @ x.mT
    square = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    return torch.addmm(x, square, x, beta=a), gram, square


def orthogonalize_adjoint(
    matrix: Float[Tensor, "n m"],
    g: Float[Tensor, "n m"],
    coefficients: Coefficients,
    steps: int,
    eps: float,
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
    """Compute O, without bfloat16's rounding, and bar M from bar O."""
    a, b, c = coefficients
    dtype = torch.promote_types(matrix.dtype, torch.float32)
    tall = matrix.shape[0] >= matrix.shape[1]
    x, g = (each.to(dtype).mT if tall else each.to(dtype) for each in (matrix, g))
    norm = x.norm()
    x = x / norm.clamp(min=eps)
    y, passes = x, []
    for _ in range(steps):
        before, (y, *products) = y, _pass(y, coefficients)
        passes.append((before, *products))
    for x, gram, square in reversed(passes):
        square_bar = g @ x.mT
        gram_bar = b * square_bar + c * (gram @ square_bar + square_bar @ gram)
        g = a * g + square @ g + (gram_bar + gram_bar.mT) @ x
    # Below eps, M is divided by a constant.
    along = torch.where(norm > eps, (x * g).sum(), 0)
    g = (g - x * along) / norm.clamp(min=eps)
    return (y.mT, g.mT) if tall else (y, g)


@core.constructor
def muon(
    lr: LearningRate = 1e-3,
    weight_decay: NonNegative = 0.1,
    momentum: Probability = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
    eps: Epsilon = 1e-7,
    ns_steps: NonNegativeInt = 5,
    adjust_lr_fn: Adjustment | None = None,
    *,
    dtype: torch.dtype = torch.bfloat16,
) -> Optimizer:
    """Make Muon: p <- (1 - lr weight_decay) p - lr f orthogonal(b), for matrices only.

    With momentum, b <- momentum b + (1 - momentum) dp; Nesterov's variant replaces b by the same
    mixture of dp and the new b. For a weight of shape (n_in, n_out), f is
    sqrt(max(1, n_out / n_in)), or 0.2 sqrt(max(n_in, n_out)) for "match_rms_adamw", with which lr
    and weight_decay may be AdamW's.

    Use another optimizer for everything except the matrices of the hidden layers:
    `by_path({"0.weight": muon(), "*": adamw()})`.

    Args:
        weight_decay: how strongly p decays.
        ns_coefficients: a, b, c of a pass.
        eps: the smallest |M| to divide by.
        ns_steps: how many passes.
        adjust_lr_fn: how f follows from the shape; None is "original".
        dtype: in which the passes run.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.

    Example:
        >>> optimizer, params = muon(1.0, weight_decay=0.0), torch.zeros(2, 3)
        >>> moved, _ = optimizer.update(params, torch.eye(2, 3), optimizer.init(params))
        >>> torch.linalg.svdvals(moved).round()
        tensor([1., 1.])
    """
    return leafwise(MuonState, rules, {"momentum": 0.0}, check=check_matrices, decoupled=True)
