"""Faster `ctc`: ATen's kernels, which loop over the steps in C++.

They run in float64, as the formula does, and are shown the blank and the sequence's labels as the
only classes, however many others there are.

The backward kernel gives exp(z) - G, with G_tk the probability of class k at step t, given y: the
gradient with respect to logits x where z = log_softmax(x). Without exp(z) it is -G, the gradient
with respect to z, which holds for every z.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.losses._ctc_target import read_target
from lincoln_fn.losses._reduction import Cotangent
from lincoln_fn.record import record, static


@record
class Cache:
    """The prediction, and what the kernels are given and give; infinities are still in nll."""

    z: Tensor
    classes: Tensor
    shown: Tensor
    labels: Tensor
    steps: Tensor
    lengths: Tensor
    nll: Tensor
    log_alpha: Tensor
    zero_infinity: bool = static()


def forward(
    z: Tensor, target: tuple[Tensor, Tensor, Tensor], *, blank: int, zero_infinity: bool
) -> tuple[Tensor, Cache]:
    """Compute l = -log P."""
    labels, steps, lengths = read_target(z, target, blank)
    classes = torch.nn.functional.pad(labels, (1, 0), value=blank)
    shown = z.reshape(len(z), -1, z.shape[-1]).gather(2, classes.expand(len(z), *classes.shape))
    shown = shown.double()
    # Each label by the place of the first that equals it; 0 is the blank.
    if labels.shape[1]:
        labels = 1 + (labels.unsqueeze(2) == labels.unsqueeze(1)).int().argmax(2)
    nll, log_alpha = torch.ops.aten._ctc_loss.Tensor(
        shown, labels, steps, lengths, 0, zero_infinity
    )
    cache = Cache(z, classes, shown, labels, steps, lengths, nll, log_alpha, zero_infinity)
    value = torch.where(nll == torch.inf, 0, nll) if zero_infinity else nll
    return value.to(z.dtype).view(z.shape[1:-1]), cache


def backward(cache: Cache, dl: Cotangent) -> Tensor:
    """Compute dz = -G dl."""
    z, shown, nll = cache.z, cache.shown, cache.nll
    dl = torch.as_tensor(dl, dtype=nll.dtype, device=z.device).reshape(-1).expand(nll.shape)
    dlogits = torch.ops.aten._ctc_loss_backward.Tensor(
        dl.contiguous(), shown, cache.labels, cache.steps, cache.lengths, nll, cache.log_alpha, 0,
        cache.zero_infinity,
    )  # fmt: skip
    is_step = torch.arange(len(z), device=z.device)[:, None] < cache.steps
    impossible = is_step & (nll == torch.inf)
    counts = is_step & ~impossible if cache.zero_infinity else is_step
    of_shown = (dlogits - torch.where(counts, dl, 0).unsqueeze(2) * shown.exp()).to(z.dtype)
    start = torch.where(impossible & counts, torch.nan, 0.0).to(z.dtype).unsqueeze(2)
    start = start.expand(len(z), len(nll), z.shape[-1])
    return start.scatter_add(2, cache.classes.expand(of_shown.shape), of_shown).view(z.shape)
