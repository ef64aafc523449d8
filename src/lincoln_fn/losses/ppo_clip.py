"""Clipped policy gradient: PPO's surrogate of a change of the policy.

z is the log-probability of an action, z_o that by the policy that has drawn it, and A the action's
advantage. With the ratio r and the clip range e,

    r = e^(z - z_o)
    l = -min(r A, clip(r, 1 - e, 1 + e) A)
      = {(-A min(r, 1 + e), if A >= 0), (-A max(r, 1 - e), if A < 0):}

Derivation. dr / dz = r, so

    dz = {(-A r dl, if A >= 0 and r <= 1 + e), (-A r dl, if A < 0 and r >= 1 - e), (0, otherwise):}

At the bound, r = 1 + e or r = 1 - e, the slope is that of the side which is not clipped. A masked
action has l = 0 and dz = 0, and a mean leaves it out.

Cache: r, A, the mask. Source: Schulman et al., "Proximal policy optimization algorithms", 2017.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn.core import Probability, constructor, unexpected
from lincoln_fn.losses.internal import Cotangent, Elements, Loss, Reduction, any_true, make_loss

Cache = tuple[Elements, Elements, Tensor | None]


def forward(
    z: Elements, target: tuple[Tensor, ...], *, clip_range: float
) -> tuple[Elements, Cache]:
    """Compute l = -min(r A, clip(r, 1 - e, 1 + e) A)."""
    advantages, old = target[:2]
    mask = target[2] if len(target) > 2 else None
    a = of_tokens("ppo_clip", "advantages", advantages, z)
    r = torch.exp(z - old.to(z.dtype))
    return where_counted(mask, surrogate(r, a, clip_range)), (r, a, mask)


def backward(cache: Cache, dl: Cotangent, *, clip_range: float) -> Elements:
    """Compute dz = -A r dl, and 0 where r is clipped."""
    r, a, mask = cache
    return where_counted(mask, slope(r, a, clip_range) * dl)


def surrogate(r: Elements, a: Elements, e: float) -> Elements:
    """Compute -A min(r, 1 + e) where A >= 0, else -A max(r, 1 - e)."""
    return -a * torch.where(a >= 0, r.clamp(max=1 + e), r.clamp(min=1 - e))


def slope(r: Elements, a: Elements, e: float) -> Elements:
    """Compute -A r, and 0 where r is clipped."""
    is_kept = torch.where(a >= 0, r <= 1 + e, r >= 1 - e)
    return torch.where(is_kept, -a * r, 0)


@constructor
def ppo_clip(*, clip_range: Probability = 0.2, reduction: Reduction = "mean") -> Loss:
    """Make PPO's clipped loss of actions with advantages.

    l = -min(r A, clip(r, 1 - e, 1 + e) A), with r the ratio of an action's probability to that by
    the policy that has drawn it, A its advantage, and e the clip range.

    log_probs have any shape, such as (N,) or (N, T) for the tokens of sequences. The target is
    (advantages, old_log_probs) or (advantages, old_log_probs, mask). The advantages have the shape
    of log_probs or its first axes: (N,) is one of each sequence. The mask is True for the actions
    that count.

    Args:
        clip_range: e. Beyond it, an action that has become as likely as it should is left alone.
        reduction: "mean" over the actions, "sum" of them, or "none".

    Example:
        >>> loss, target = lf.losses.ppo_clip(), (torch.tensor([1.0, -1.0]), torch.zeros(2))
        >>> value, cache = loss.forward(torch.tensor([0.5, 0.0]), target)
        >>> value, loss.backward(cache)
        (tensor(-0.1000), tensor([0.0000, 0.5000]))
    """
    return make_loss(
        forward, backward, count=count_masked, inputs=("log_probs",),
        targets=("advantages", "old_log_probs"), like={"old_log_probs": "log_probs"},
        masks={"mask": "log_probs"},
    )  # fmt: skip


def of_tokens(name: str, what: str, given: Tensor, log_probs: Float[Tensor, "*s"]) -> Tensor:
    """Read one number for each token, or for each sequence, whose tokens share it."""
    shape = log_probs.shape
    if given.shape != shape[: given.ndim] or (given.ndim == 0) != (len(shape) == 0):
        expected = f"{what} of log_probs' shape {tuple(shape)} or its first axes"
        raise unexpected(name, expected, given.shape)
    return given.to(log_probs.dtype).reshape(given.shape + (1,) * (len(shape) - given.ndim))


def where_counted(mask: Bool[Tensor, "*s"] | None, values: Float[Tensor, "*s"]) -> Tensor:
    """Return the values of the tokens that count, and 0 for the others."""
    return values if mask is None else torch.where(mask, values, 0)


def count_masked(cache: tuple[Tensor | None, ...], *, name: str) -> Tensor | None:
    """Count the tokens of the mask, which comes last in a cache; None for all of them."""
    if (mask := cache[-1]) is None:
        return None
    n = mask.sum(dtype=torch.float32)
    if not any_true(n):
        raise unexpected(name, "a mask with a token to average over", "only False")
    return n
