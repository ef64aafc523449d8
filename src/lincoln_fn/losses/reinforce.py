"""Policy gradient: actions become more likely by how much better they were than a baseline.

z is the log-probability of an action, R its return, and b a baseline, which lowers the variance of
the gradient:

    b_i = 0    or mean_j R_j    or mean_(j != i) R_j
    l_i = -(R_i - b_i) z_i

The mean of the others does not depend on action i, so the gradient has the same mean as without a
baseline. The mean of all n contains R_i, so R_i - mean_j R_j is 1 - 1 / n of R_i - mean_(j != i)
R_j, and so is the gradient.

Derivation. Returns and baseline have no gradient:

    dz_i = -(R_i - b_i) dl_i

A masked action has l = 0 and dz = 0, and a mean leaves it out, as does the baseline.

Cache: A = R - b, and the mask. Sources: Williams, "Simple statistical gradient-following algorithms
for connectionist reinforcement learning", 1992; for leave-one-out, Kool et al., "Buy 4 REINFORCE
samples, get a baseline for free!", 2019.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from lincoln_fn.core import constructor, unexpected
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.losses.internal import Cotangent, Elements, Loss, Reduction, any_true, make_loss
from lincoln_fn.losses.ppo_clip import count_masked, of_tokens, where_counted

Cache = tuple[Elements, Tensor | None]


def forward(
    z: Elements, target: Tensor | tuple[Tensor, ...], *, baseline: str
) -> tuple[Elements, Cache]:
    """Compute l = -(R - b) z."""
    returns, mask = (*target, None)[:2] if isinstance(target, tuple) else (target, None)
    assert returns is not None  # the formula's check of the target
    r = of_tokens("reinforce", "returns", returns, z)
    if baseline == "none":
        a = r
    else:
        counts = torch.ones_like(r, dtype=torch.bool) if mask is None else mask
        # The return of a sequence counts if one of its tokens does.
        counts = counts.reshape(*returns.shape, -1).any(-1).reshape(r.shape)
        a = _beside_others(r, counts, leaves_one_out=baseline == "leave_one_out")
    return where_counted(mask, -a * z), (a.expand_as(z), mask)


def _beside_others(r: Tensor, counts: Bool[Tensor, "*s"], *, leaves_one_out: bool) -> Tensor:
    """Compute R - b, with the mean along axis 0 of all returns that count, or of the others."""
    wide = widened(r)
    n = counts.sum(0, dtype=wide.dtype)  # float16 ends at 65504 examples
    if leaves_one_out and not any_true(n > 1):
        expected = "at least 2 examples for a baseline that leaves one out"
        raise unexpected("reinforce", expected, int(n.max()))
    a = wide - torch.where(counts, wide / n.clamp(min=1), 0).sum(0)
    # R_i - mean_(j != i) R_j = n / (n - 1) (R_i - mean_j R_j)
    a = a * (n / (n - 1).clamp(min=1)) if leaves_one_out else a
    return a.to(r.dtype)


def backward(cache: Cache, dl: Cotangent) -> Elements:
    """Compute dz = -(R - b) dl."""
    a, mask = cache
    return where_counted(mask, -a * dl)


@constructor
def reinforce(
    *,
    baseline: Literal["none", "mean", "leave_one_out"] = "none",
    reduction: Reduction = "mean",
) -> Loss:
    """Make the policy-gradient loss of actions with returns: l = -(R - b) log p.

    log_probs have any shape, such as (N,) or (N, T) for the tokens of sequences. The target is
    returns, or (returns, mask). Returns have the shape of log_probs or its first axes: (N,) is one
    of each sequence. The mask is True for the actions that count.

    Args:
        baseline: b, "none", the "mean" of the returns over axis 0, or "leave_one_out", the mean of
            the other ones, both of what the mask leaves; an action without others has R - b = 0.
            One of your own, such as a network's estimate, is subtracted from the returns before.
        reduction: "mean" over the actions, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.reinforce(baseline="mean")
        >>> log_probs, returns = torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 0.0])
        >>> value, cache = loss.forward(log_probs, returns)
        >>> value, loss.backward(cache)
        (tensor(-0.2500), tensor([-0.2500,  0.2500]))
    """
    return make_loss(
        forward, backward, count=count_masked, mixes_examples=baseline != "none",
        inputs=("log_probs",), targets=("returns",), masks={"mask": "log_probs"},
    )  # fmt: skip
