"""The notebook's MNIST network as its ancestor computes it, for the comparison from end to end.

The ancestor works in plain tensor operations, one Jacobian matrix of the log-softmax for each
example, made in a Python loop. Here are its operations in the notebook's order, less its checks.
"""

from __future__ import annotations

import torch
from torch import Tensor

Weights = tuple[Tensor, Tensor, Tensor, Tensor]


def init(n_in: int, n_hidden: int, n_out: int) -> Weights:
    """Draw the weights and biases of two dense layers from torch's generator."""
    return (
        torch.randn(n_in, n_hidden) / n_in**0.5,
        torch.zeros(n_hidden),
        torch.randn(n_hidden, n_out) / n_hidden**0.5,
        torch.zeros(n_out),
    )


def forward(weights: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the hidden layer's sigmoid and the log-probabilities."""
    w_1, b_1, w_2, b_2 = weights
    hidden = 1 / (1 + torch.exp(-(x @ w_1 + b_1)))
    logits = hidden @ w_2 + b_2
    return hidden, logits - torch.log(torch.exp(logits).sum(1, keepdim=True))


def step(weights: Weights, x: Tensor, target: Tensor, lr: float) -> float:
    """Move the weights, in place, along the negative gradient; give the sum of the losses."""
    hidden, z = forward(weights, x)
    labels = target.unsqueeze(1)
    value = (torch.zeros_like(z).scatter_(1, labels, 1) * -z).sum().item()
    dz = torch.zeros_like(z).scatter_(1, labels, -1)
    dlogits = torch.bmm(dz.unsqueeze(1), _jacobians(torch.exp(z))).squeeze(1)
    dhidden = hidden * (1 - hidden) * (dlogits @ weights[2].T)
    slopes = x.T @ dhidden, dhidden.sum(0), hidden.T @ dlogits, dlogits.sum(0)
    for weight, slope in zip(weights, slopes, strict=True):
        weight -= lr * slope
    return value


def _jacobians(p: Tensor) -> Tensor:
    """Make the matrix 1 - p_k of each example, one after the other."""
    n, classes = p.shape
    jacobians, ones = torch.zeros(n, classes, classes), torch.eye(classes)
    for i, row in enumerate(p):
        jacobians[i] = ones - row.expand(classes, classes)
    return jacobians
