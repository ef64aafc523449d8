"""What a Laplace posterior predicts.

Derivation. The network is linearised in the parameters, f' = f + J (theta' - theta). With theta'
from N(theta, P^(-1)), f' is normal, too:

    f' ~ N(f, J P^(-1) J^T)

For the last layer, f = phi~^T W~, so that J = phi~^T ox I.

The probability of a class is the mean of the softmax over f'. MacKay's probit approximation divides
the logits by what their variance adds; a Monte Carlo estimate draws f':

    p ~~ softmax(f / sqrt(1 + pi/8 v))        with v the variance of each logit
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import per_example
from lincoln_fn.combine import inference
from lincoln_fn.core import Arrays, Key, Layer, PositiveInt, checked, keys, record, tree, unexpected
from lincoln_fn.curvature.laplace import Posterior, features
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.rules.internal import with_true_gradient


@record
class Predictive:
    """The normal distribution of a network's output: a mean and a covariance for each example."""

    mean: Float[Tensor, "N O"]
    covariance: Float[Tensor, "N O O"]


@checked
def laplace_predictive(net: Layer, posterior: Posterior, x: Arrays) -> Predictive:
    """Compute the distribution of the network's output under a Laplace posterior.

    f ~ N(predict(params, x), J P^-1 J^T), with J the derivative of the output in the parameters.
    For a regression, add `noise_std` squared to the variance to get that of the targets.

    Returns:
        The mean of N examples, of shape (N, O), and the covariance, of shape (N, O, O); float32 for
        a network of half precision. For "diagonal" it holds the derivatives of all examples in
        memory at once: give it few.

    Source:
        Immer, Korzepa and Bauer, "Improving Predictions of Bayesian Neural Nets via Local
        Linearization", AISTATS 2021.

    Example:
        >>> net, loss = lf.serial(lf.dense(1, bias=False)), lf.losses.mse(reduction="sum")
        >>> params = (lf.layers.dense.Params(torch.tensor([[1.0]]), None),)
        >>> batches = [(torch.tensor([[1.0]]), torch.tensor([[1.0]]))]
        >>> posterior = lf.curvature.laplace(net, params, batches, loss)
        >>> laplace_predictive(net, posterior, torch.tensor([[2.0]])).covariance.round()
        tensor([[[2.]]])
    """
    net = with_true_gradient(inference(net))
    if posterior.structure == "last_layer":
        return _of_last_layer(net, posterior, x)
    return _of_all_layers(net, posterior, x)


def _of_last_layer(net: Layer, posterior: Posterior, x: Arrays) -> Predictive:
    """Compute J P^-1 J^T with J = phi~^T ox I."""
    params = posterior.params
    f, phi = widened(net.predict(params, x)), features(net, params, x)
    factor = torch.linalg.cholesky(posterior.precision)
    # Not by cholesky_inverse, whose derivative in forward mode is wrong in torch 2.13.
    covariance = torch.cholesky_solve(torch.eye(len(factor)).to(factor), factor)
    covariance = covariance.reshape(phi.shape[1], f.shape[1], phi.shape[1], -1)
    return Predictive(f, torch.einsum("ni,iojp,nj->nop", phi, covariance, phi))


def _of_all_layers(net: Layer, posterior: Posterior, x: Arrays) -> Predictive:
    """Compute J P^-1 J^T, row by row of J."""
    params = posterior.params
    f, cache = net.forward(params, x)
    if f.ndim != 2:
        expected = "a prediction of shape (N, O), with one axis of outputs"
        raise unexpected("laplace_predictive", expected, f.shape)
    rows = []
    for o in range(f.shape[1]):
        e_o = torch.zeros_like(f).index_fill(1, torch.tensor([o], device=f.device), 1)
        of_output = per_example.gradients(net, params, cache, e_o)
        scaled = tree.map(lambda d, p: d / p.sqrt(), of_output, posterior.precision)
        rows.append(torch.cat([leaf.flatten(1) for leaf in tree.leaves(scaled)], 1))
    jacobian = torch.stack(rows, 1)
    return Predictive(widened(f), jacobian @ jacobian.mT)


@checked
def laplace_probabilities(
    predictive: Predictive, *, key: Key | None = None, samples: PositiveInt = 100
) -> Float[Tensor, "N C"]:
    """Compute the probabilities of classes from the distribution of their logits.

    Args:
        predictive: the logits, from `laplace_predictive`.
        key: draws logits, whose softmax is averaged; None for the probit approximation,
            softmax(f / sqrt(1 + pi/8 v)) with v the variance of each logit.
        samples: how many logits are drawn for each example.

    Source:
        MacKay, "The Evidence Framework Applied to Classification Networks", 1992.

    Example:
        >>> logits = Predictive(torch.tensor([[2.0, 0.0]]), 8 * torch.eye(2)[None])
        >>> laplace_probabilities(logits)
        tensor([[0.7277, 0.2723]])
    """
    mean, covariance = predictive.mean, predictive.covariance
    if key is None:
        variance = covariance.diagonal(dim1=1, dim2=2)
        return torch.softmax(mean / (1 + math.pi / 8 * variance).sqrt(), 1)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt().unsqueeze(1)
    drawn = keys.normal(key.near(mean), (samples, *mean.shape)).to(mean.dtype)
    logits = mean + torch.einsum("nok,snk->sno", root, drawn)
    return torch.softmax(logits, -1).mean(0)
