"""What torch's rows share: the modules, with the initial weights, their losses and optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import workloads
from benchmarks.workloads import Weights, Workload


class Positions(nn.Module):
    """Learned positions, which are added."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, width))

    def forward(self, x: Tensor) -> Tensor:
        """Add them."""
        return x + self.weight


class Lstm(nn.LSTM):
    """torch's own, of which only the outputs count."""

    def forward(self, x: Tensor) -> Tensor:
        """Run over a sequence."""
        return super().forward(x)[0]


class Block(nn.Module):
    """A block as nanoGPT writes it, with torch's own attention."""

    def __init__(self, width: int, heads: int, *, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, bias=bias)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width, bias=bias)
        self.norm2 = nn.LayerNorm(width, bias=bias)
        self.up = nn.Linear(width, 4 * width, bias=bias)
        self.down = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Attend and think."""
        batch, length, width = x.shape
        shape = (batch, length, self.heads, width // self.heads)
        qkv = self.qkv(self.norm1(x)).split(width, dim=2)
        q, k, v = (part.view(shape).transpose(1, 2) for part in qkv)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def module(workload: Workload) -> nn.Sequential:
    """Make the network with the initial weights."""
    net = nn.Sequential(*map(_layer, workload.layers))
    with torch.no_grad():
        for part, weights in zip(net, workload.weights(), strict=True):
            _fill(part, weights)
    return net


def _layer(spec: workloads.Spec) -> nn.Module:
    match spec:
        case workloads.Dense(n_in, n_out):
            return nn.Linear(n_in, n_out)
        case workloads.Conv(n_in, n_out, kernel):
            return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2)
        case workloads.Embedding(entries, width):
            return nn.Embedding(entries, width)
        case workloads.Positions(length, width):
            return Positions(length, width)
        case workloads.Lstm(n_in, hidden):
            return Lstm(n_in, hidden, batch_first=True)
        case workloads.LayerNorm(width):
            return nn.LayerNorm(width)
        case workloads.Block(width, heads):
            return Block(width, heads)
        case workloads.Plain("max_pool"):
            return nn.MaxPool2d(2)
        case workloads.Plain(name):
            return {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "flatten": nn.Flatten}[name]()
    raise AssertionError(spec)


def _fill(part: nn.Module, weights: Weights) -> None:
    for name, weight in weights.items():
        owner_name, _, attribute = name.rpartition(".")
        owner = part.get_submodule(owner_name)
        tensor = torch.from_numpy(weight)
        if isinstance(owner, nn.LSTM):
            attribute += "_l0"
        if isinstance(owner, nn.Linear | nn.LSTM):
            tensor = tensor.mT if tensor.ndim == 2 else tensor  # torch's matrices stand at the left
        getattr(owner, attribute).copy_(tensor)


def loss(workload: Workload) -> Callable[[Tensor, Tensor], Tensor]:
    """Give the loss on logits."""
    if workload.classes == 1:
        return lambda logits, target: F.binary_cross_entropy_with_logits(logits[:, 0], target)
    if workload.codes:
        return lambda logits, target: F.cross_entropy(logits.flatten(0, 1), target.flatten())
    return F.cross_entropy


def optimizer(name: str, parameters: Iterator[nn.Parameter], **options: Any) -> Any:
    """Make the optimizer, as torch makes it by default or with other options."""
    lr = workloads.LEARNING_RATES[name]
    if name == "adamw":
        of = workloads.ADAMW
        betas, decay = (of["beta1"], of["beta2"]), of["weight_decay"]
        return torch.optim.AdamW(parameters, lr, betas, of["eps"], decay, **options)
    momentum = workloads.MOMENTUM if name == "momentum" else 0.0
    return torch.optim.SGD(parameters, lr, momentum, **options)


def batches(workload: Workload) -> list[tuple[Tensor, Tensor]]:
    """Make tensors of the batches; torch's logistic loss has floats as targets."""
    pairs = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in workload.batches()]
    return [(x, y.float()) for x, y in pairs] if workload.classes == 1 else pairs


def has_images(workload: Workload) -> bool:
    """Tell whether there are convolutions, for which the order of the axes in memory matters."""
    return any(isinstance(layer, workloads.Conv) for layer in workload.layers)
