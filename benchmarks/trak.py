"""TRAK: the effect of training examples, by a kernel of random projections of gradients.

Derivation. The output f = log p - log(1 - p), with p the probability of the right label, is taken
as linear in the params around those after training. Then a run learns logistic regression on the
features phi_n = P^T df_n/dtheta, with P a random projection to k numbers. One step of Newton's
method for leaving out example n changes the output of a test example z by minus

    tau_n = phi_z^T (Phi^T Phi)^(-1) phi_n (1 - p_n)

and the test loss L = -log p_z, whose derivative in f is -(1 - p_z), by (1 - p_z) tau_n. With
several models, their phi_z^T (Phi^T Phi)^(-1) phi_n and their 1 - p_n are averaged apart.

Source: Park and others, "TRAK: Attributing Model Behavior at Scale", ICML 2023, equations 13 to 17.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

import lincoln_fn as lf

Examples = tuple[Tensor, Tensor]


def margin_gradients(net: lf.Layer, params: lf.Params, examples: Examples) -> tuple[Tensor, Tensor]:
    """Compute df_n/dtheta of each example, of shape (N, params), and 1 - p_n."""
    x, target = examples
    logits, cache = net.forward(params, x)
    right = torch.nn.functional.one_hot(target, logits.shape[1]).bool()
    g = right.double() - logits.masked_fill(right, -torch.inf).softmax(1)
    of_each = lf.per_example.gradients(net, params, cache, g.to(logits.dtype))
    rows = torch.cat([leaf.flatten(1) for leaf in lf.tree.leaves(of_each)], 1)
    return rows, 1 - logits.softmax(1)[right]


def trak(
    net: lf.Layer, models: Sequence[lf.Params], train: Examples, test: Examples, size: int,
    key: lf.Key,
) -> Tensor:  # fmt: skip
    """Predict the derivative of each test loss in each training example's weight: (test, N)."""
    kernels, rest_of_train, rest_of_test = [], [], []
    for i, params in enumerate(models):
        rows, rest = margin_gradients(net, params, train)
        of_test, its_rest = margin_gradients(net, params, test)
        projection = lf.keys.normal(key.fold_in(i), (rows.shape[1], size), dtype=rows.dtype)
        phi, phi_test = rows @ projection, of_test @ projection
        kernels.append(phi_test @ torch.linalg.solve(phi.mT @ phi, phi.mT))
        rest_of_train.append(rest)
        rest_of_test.append(its_rest)
    kernel, q, of_loss = (
        torch.stack(each).mean(0) for each in (kernels, rest_of_train, rest_of_test)
    )
    return -of_loss[:, None] * kernel * q
