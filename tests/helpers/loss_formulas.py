"""Losses that torch.nn does not have, as their papers write them, for autograd to differentiate.

Each is called as torch's modules are: with the options and the reduction, and what that returns
with the prediction and the target.
"""

import torch
from torch.nn import functional as F


def module(values):
    """Make a module of a function (prediction, target, **options) -> values, or (values, n)."""

    def made(reduction, **options):
        def run(x, target):
            found = values(x, target, **options)
            each, n = found if type(found) is tuple else (found, found.numel())
            return {"none": each, "sum": each.sum(), "mean": each.sum() / n}[reduction]

        return run

    return made


@module
def identity(x, target):
    return x


@module
def dpo(x, reference, beta=0.1, label_smoothing=0.0, loss_type="sigmoid"):
    ratios = [pi - rho for pi, rho in zip(x, reference, strict=True)]
    h = ratios[0] - ratios[1]
    if loss_type == "ipo":
        return (h - 1 / (2 * beta)) ** 2
    e = label_smoothing
    return -(1 - e) * F.logsigmoid(beta * h) - e * F.logsigmoid(-beta * h)


@module
def kto(x, target, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0):
    h, h_mismatched = (pi - rho for pi, rho in zip(x, target[1:], strict=True))
    z_0 = h_mismatched.mean().clamp(min=0).detach()
    desirable = desirable_weight * (1 - torch.sigmoid(beta * (h - z_0)))
    undesirable = undesirable_weight * (1 - torch.sigmoid(beta * (z_0 - h)))
    return torch.where(target[0], desirable, undesirable) + 0 * x[1].sum()


def surrogate(r, advantages, clip_range):
    return -torch.minimum(r * advantages, r.clamp(1 - clip_range, 1 + clip_range) * advantages)


def masked(values, mask):
    return values if mask is None else (values * mask, mask.sum())


def by_token(numbers, z):
    return numbers.reshape(numbers.shape + (1,) * (z.ndim - numbers.ndim))


@module
def ppo_clip(z, target, clip_range=0.2):
    advantages, old, mask = (*target, None)[:3]
    return masked(surrogate((z - old).exp(), by_token(advantages, z), clip_range), mask)


@module
def grpo(z, target, beta=0.04, clip_range=0.2, scale_rewards=True):
    rewards, old, *others = target
    advantages = rewards - rewards.mean(1, keepdim=True)
    if scale_rewards:
        advantages = advantages / (rewards.std(1, keepdim=True) + 1e-4)
    each = surrogate((z - old).exp(), advantages[..., None], clip_range)
    if beta:
        ratio = (others.pop(0) - z).exp()
        each = each + beta * (ratio - ratio.log() - 1)
    mask = others[0] if others else torch.ones_like(z)
    return (each * mask).sum(-1) / mask.sum(-1)


@module
def reinforce(z, target, baseline="none"):
    returns, mask = target if type(target) is tuple else (target, None)
    b = torch.zeros_like(returns)
    if baseline == "mean":
        b = returns.mean(0).expand_as(returns)
    elif baseline == "leave_one_out":
        rows = range(len(returns))
        b = torch.stack([returns[[j for j in rows if j != i]].mean(0) for i in rows])
    return masked(-by_token(returns - b, z) * z, mask)


@module
def info_nce(x, target, temperature=1.0, symmetric=False):
    labels = torch.arange(len(x))
    of_rows = F.cross_entropy(x / temperature, labels, reduction="none")
    if not symmetric:
        return of_rows
    return (of_rows + F.cross_entropy(x.mT / temperature, labels, reduction="none")) / 2


@module
def nt_xent(x, target, temperature=0.5):
    z, n = torch.cat(x), len(x[0])
    cosines = F.cosine_similarity(z[:, None], z[None], dim=-1) / temperature
    cosines = cosines.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    labels = torch.arange(2 * n).roll(n)
    return F.cross_entropy(cosines, labels, reduction="none").view(2, n).mean(0)


@module
def distillation(x, target, temperature=2.0, dim=1):
    log_p, log_q = (F.log_softmax(logits / temperature, dim) for logits in (x, target))
    return temperature**2 * F.kl_div(log_p, log_q, log_target=True, reduction="none").sum(dim)


@module
def linear_cross_entropy(x, c, weight=None, ignore_index=-100, chunk_size=1):
    h, matrix = x
    scores, w = (h @ matrix.mT).movedim(-1, 1), torch.ones(len(matrix), dtype=h.dtype)
    each = F.cross_entropy(
        scores, c, w if weight is None else weight, ignore_index=ignore_index, reduction="none"
    )
    counted = (w if weight is None else weight)[c.clamp(min=0)] * (c != ignore_index)
    return each, counted.sum()


@module
def focal(x, y, alpha=0.25, gamma=2.0):
    """As `torchvision.ops.sigmoid_focal_loss` computes it."""
    p = torch.sigmoid(x)
    loss = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    loss = loss * (1 - (p * y + (1 - p) * (1 - y))) ** gamma
    return loss if alpha is None else (alpha * y + (1 - alpha) * (1 - y)) * loss


@module
def dice(p, y, eps=1e-5):
    p, y = p.flatten(2), y.flatten(2)
    return 1 - (2 * (p * y).sum(-1) + eps) / (p.sum(-1) + y.sum(-1) + eps)
