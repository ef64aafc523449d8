"""Right outputs of what courses ask for, by operations of torch that autograd follows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def affine(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Compute x w + b, with all axes of x but the first as one."""
    y = x.reshape(len(x), -1) @ w
    return y if b is None else y + b


def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Compute x w + b along the last axis."""
    y = x @ w
    return y if b is None else y + b


def embedding(x: Tensor, w: Tensor) -> Tensor:
    """Take the rows of w that x names."""
    rows: Tensor = w[x]
    return rows


# Any: numbers, or one for each axis.
def conv(x: Tensor, w: Tensor, b: Tensor | None = None, stride: Any = 1, pad: Any = 0) -> Tensor:
    """Correlate x with the kernels w, and add b."""
    return _run("conv", x, w, b, stride, pad)


def max_pool(x: Tensor, kernel: Any, stride: Any, pad: Any = 0) -> Tensor:
    """Take the largest number of each window."""
    return _run("max_pool", x, kernel, stride, pad)


def avg_pool(x: Tensor, kernel: Any, stride: Any, pad: Any = 0) -> Tensor:
    """Take the average of each window."""
    return _run("avg_pool", x, kernel, stride, pad)


def _run(name: str, x: Tensor, *options: Any) -> Tensor:
    y: Tensor = getattr(functional, f"{name}{x.ndim - 2}d")(x, *options)
    return y


def normalise(x: Tensor, axes: tuple[int, ...], eps: float = 1e-5) -> Tensor:
    """Subtract the mean along axes, and divide by the standard deviation."""
    centred = x - x.mean(axes, keepdim=True)
    variance = (centred**2).mean(axes, keepdim=True)
    return centred / torch.sqrt(variance + eps)


def batch_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each feature, or each channel of images, over the batch."""
    axes = (0, *range(2, x.ndim))
    return scale_and_shift(normalise(x, axes, eps), gamma, beta, 1)


def layer_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each example over its features."""
    return scale_and_shift(normalise(x, (-1,), eps), gamma, beta, x.ndim - 1)


def group_norm(
    x: Tensor, gamma: Tensor, beta: Tensor | None, groups: int, eps: float = 1e-5
) -> Tensor:
    """Normalise each group of channels of each example."""
    grouped = x.reshape(len(x), groups, -1)
    return scale_and_shift(normalise(grouped, (-1,), eps).reshape(x.shape), gamma, beta, 1)


def scale_and_shift(x: Tensor, gamma: Tensor | None, beta: Tensor | None, axis: int) -> Tensor:
    """Multiply by gamma and add beta, which lie along one axis."""
    y = x if gamma is None else x * _along(gamma, x, axis)
    return y if beta is None else y + _along(beta, x, axis)


def _along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    if values.numel() != x.shape[axis]:
        return values
    return values.reshape([-1 if n == axis else 1 for n in range(x.ndim)])


def rnn_step(x: Tensor, h: Tensor, wx: Tensor, wh: Tensor, b: Tensor) -> Tensor:
    """Compute tanh(x Wx + h Wh + b)."""
    return torch.tanh(x @ wx + h @ wh + b)


def rnn(x: Tensor, h0: Tensor, wx: Tensor, wh: Tensor, b: Tensor) -> Tensor:
    """Run the steps along axis 1, and return all states."""
    h, states = h0, []
    for t in range(x.shape[1]):
        h = rnn_step(x[:, t], h, wx, wh, b)
        states.append(h)
    return torch.stack(states, 1)


def lstm_step(
    x: Tensor, h: Tensor, c: Tensor, wx: Tensor, wh: Tensor, b: Tensor, order: str = "ifog"
) -> tuple[Tensor, Tensor]:
    """Run one step of an LSTM: the next h and c."""
    parts = dict(zip(order, (x @ wx + h @ wh + b).chunk(4, 1), strict=True))
    i, f, o = torch.sigmoid(parts["i"]), torch.sigmoid(parts["f"]), torch.sigmoid(parts["o"])
    g = torch.tanh(parts["g"])
    c = f * c + i * g
    return o * torch.tanh(c), c


def lstm(x: Tensor, h0: Tensor, wx: Tensor, wh: Tensor, b: Tensor, order: str = "ifog") -> Tensor:
    """Run an LSTM along axis 1 from a cell of zeros, and return all h."""
    h, c, states = h0, torch.zeros_like(h0), []
    for t in range(x.shape[1]):
        h, c = lstm_step(x[:, t], h, c, wx, wh, b, order)
        states.append(h)
    return torch.stack(states, 1)


def softmax_loss(x: Tensor, y: Tensor) -> Tensor:
    """Average the cross-entropy of scores and labels over the examples."""
    p = torch.log_softmax(x, 1)
    return -p[torch.arange(len(x)), y].mean()


def svm_loss(x: Tensor, y: Tensor, delta: float = 1.0) -> Tensor:
    """Average the multi-class hinge loss over the examples."""
    rows = torch.arange(len(x))
    margins = torch.relu(x - x[rows, y].unsqueeze(1) + delta)
    others = torch.ones_like(x)
    others[rows, y] = 0
    return (margins * others).sum(1).mean()


def temporal_softmax_loss(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Add up the cross-entropy over the steps that count, for each example of the batch."""
    p = torch.log_softmax(x.flatten(0, 1), 1)
    chosen = p[torch.arange(len(p)), y.flatten()]
    return -(chosen * mask.flatten()).sum() / len(x)


def linear_softmax_loss(w: Tensor, x: Tensor, y: Tensor, reg: float, factor: float = 1.0) -> Tensor:
    """Add the squares of a classifier's weights to its cross-entropy."""
    return softmax_loss(x @ w, y) + factor * reg * (w * w).sum()


def linear_svm_loss(w: Tensor, x: Tensor, y: Tensor, reg: float, factor: float = 1.0) -> Tensor:
    """Add the squares of a classifier's weights to its hinge loss."""
    return svm_loss(x @ w, y) + factor * reg * (w * w).sum()
