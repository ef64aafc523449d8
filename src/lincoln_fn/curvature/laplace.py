"""The Laplace approximation: a normal distribution of the parameters around the trained ones.

Derivation. theta maximises the log posterior, log p(D | theta) - tau/2 ||theta||^2 + const. Its
second-order expansion there is the logarithm of a normal distribution:

    p(theta' | D) ~~ N(theta, P^(-1))        P = G + tau I

G is the Gauss-Newton matrix of the negative log-likelihood. The integral of the expansion over all
parameters is the evidence of the model:

    log p(D) ~~ log p(D | theta) - tau/2 ||theta||^2 + 1/2 log det (tau I) - 1/2 log det P

For the last layer alone, with phi~_n = (phi_n, 1) its input, and H_n the Hessian of the negative
log-likelihood in the prediction of example n, G is exact:

    G = sum_n phi~_n phi~_n^T ox H_n

A loss that is a sum gives the likelihood. For `softmax_cross_entropy`, -L is the log-likelihood.
For `mse` with noise of standard deviation sigma and M targets, it is

    log p(D | theta) = -L / (2 sigma^2) - M/2 log(2 pi sigma^2)

For a prediction, the network is linearised in the parameters, f' = f + J (theta' - theta). With
theta' from N(theta, P^(-1)), f' is normal, too:

    f' ~ N(f, J P^(-1) J^T)

For the last layer, f = phi~^T W~, so that J = phi~^T ox I.

The probability of a class is the mean of the softmax over f'. MacKay's probit approximation divides
the logits by what their variance adds; a Monte Carlo estimate draws f':

    p ~~ softmax(f / sqrt(1 + pi/8 v))        with v the variance of each logit
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core, per_example
from lincoln_fn.combine import inference, is_serial
from lincoln_fn.core import Arrays, Key, Layer, Params, Positive, PositiveInt, tree, unexpected
from lincoln_fn.curvature.columns import columns
from lincoln_fn.curvature.diagonal import ggn_diagonal
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.losses import Loss, mse, softmax_cross_entropy
from lincoln_fn.rules.internal import with_true_gradient
from lincoln_fn.training import Batch, check_batch, check_walkable

Structure: TypeAlias = Literal["last_layer", "diagonal"]


@core.record
class Posterior:
    """A normal distribution of the parameters.

    `params` is its mean. `precision` is P: for "last_layer" a matrix over the numbers of the last
    layer's weight of shape (n_in + 1, n_out), row by row, the bias being the last row; for
    "diagonal" a tree that mirrors params. `noise_std` is that of the targets, None for classes.
    """

    params: Params
    precision: Params
    log_likelihood: Tensor
    structure: Structure = core.static()
    prior_precision: float = core.static()
    noise_std: float | None = core.static()


@core.checked
def laplace(
    net: Layer,
    params: Params,
    batches: Iterable[Batch],
    loss: Loss,
    *,
    structure: Structure = "last_layer",
    prior_precision: Positive = 1.0,
    noise_std: Positive = 1.0,
) -> Posterior:
    """Approximate the posterior of the parameters by a normal distribution around them.

    Args:
        net: the network, which runs as `predict` does. For "last_layer" it is a `serial` whose last
            part is a dense layer.
        batches: the training data, each batch x and target.
        loss: `softmax_cross_entropy(reduction="sum")`, without class weights and label smoothing,
            or `mse(reduction="sum")`.
        structure: "last_layer" for the whole precision of the last layer, with all others fixed;
            "diagonal" for the diagonal of the precision of all parameters.
        prior_precision: tau, of the normal prior of each parameter. A weight decay, as the weight
            of 1/2 ||params||^2 in a loss that is a sum, is tau.
        noise_std: sigma of the targets, for `mse`.

    Source:
        Daxberger and others, "Laplace Redux: Effortless Bayesian Deep Learning", NeurIPS 2021.

    Example:
        >>> net, loss = lf.serial(lf.dense(1, bias=False)), lf.losses.mse(reduction="sum")
        >>> params = (lf.layers.dense.Params(torch.tensor([[1.0]]), None),)
        >>> batches = [(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [2.0]]))]
        >>> laplace(net, params, batches, loss, prior_precision=3.0).precision.round()
        tensor([[8.]])
    """
    check_walkable("laplace", batches)
    is_regression = _is_regression(loss)
    scale = 1 / (2 * noise_std**2) if is_regression else 1.0
    if structure == "last_layer":
        split(net, params)
    curvature_of = _last_layer if structure == "last_layer" else ggn_diagonal
    net = inference(net)
    precision, log_likelihood, count = None, torch.zeros(()), 0
    for batch in batches:
        check_batch("laplace", batch)
        x, target = batch
        prediction = net.predict(params, x)
        value, _ = loss.forward(prediction, target)
        log_likelihood, count = log_likelihood - scale * value, count + prediction.numel()
        g = curvature_of(net, params, x, loss, target)
        g = tree.map(lambda of_batch: scale * widened(of_batch), g)
        precision = g if precision is None else tree.map(torch.add, precision, g)
    if precision is None:
        raise unexpected("laplace", "at least one batch", "none")
    if structure == "last_layer":
        precision = precision + prior_precision * torch.eye(len(precision)).to(precision)
    else:
        precision = tree.map(lambda p: p + prior_precision, precision)
    if is_regression:
        log_likelihood = log_likelihood - count / 2 * math.log(2 * math.pi * noise_std**2)
    noise = noise_std if is_regression else None
    return Posterior(params, precision, log_likelihood, structure, prior_precision, noise)


@core.checked
def log_marginal_likelihood(posterior: Posterior) -> Tensor:
    """Compute the Laplace approximation of the evidence, log p(D).

    A larger one stands for a better prior precision, noise or network.

    Source:
        MacKay, "A Practical Bayesian Framework for Backpropagation Networks", 1992.

    Example:
        >>> ones, value = (torch.ones(1),), torch.tensor(-2.0)
        >>> log_marginal_likelihood(Posterior(ones, ones, value, "diagonal", 1.0, None))
        tensor(-2.5000)
    """
    tau, precision = posterior.prior_precision, posterior.precision
    if posterior.structure == "last_layer":
        covered, log_det = tree.leaves(posterior.params[-1]), torch.logdet(precision)
    else:
        covered = tree.leaves(posterior.params)
        log_det = torch.stack([p.log().sum() for p in tree.leaves(precision)]).sum()
    square = torch.stack([leaf.square().sum() for leaf in covered]).sum()
    of_prior = sum(leaf.numel() for leaf in covered) * math.log(tau)
    return posterior.log_likelihood - (tau * square - of_prior + log_det) / 2


def split(net: Layer, params: Params) -> tuple[Layer, Params, Layer, Params]:
    """Return the layers before the last one with their params, and the last, a dense layer."""
    if not (is_serial(net) and net.parts and core.kind_of(net.parts[-1]) == "dense"):
        expected = "a serial network whose last part is a dense layer"
        raise unexpected("laplace", expected, net, "or use structure='diagonal'")
    return net.rebuild(net.parts[:-1]), params[:-1], net.parts[-1], params[-1]


def features(net: Layer, params: Params, x: Arrays) -> Float[Tensor, "N I"]:
    """Compute phi~, the input of the last layer, with a 1 behind it if there is a bias."""
    before, its, _, last = split(net, params)
    phi = widened(before.predict(its, x))
    expected, mend = "features of shape (N, n)", "or use structure='diagonal'"
    core.require(phi.ndim == 2, "laplace", expected, tuple(phi.shape), mend)
    return phi if last.bias is None else torch.nn.functional.pad(phi, (0, 1), value=1.0)


def _last_layer(
    net: Layer, params: Params, x: Arrays, loss: Loss, target: Arrays
) -> Float[Tensor, "D D"]:
    """Compute G = sum_n phi~_n phi~_n^T ox H_n."""
    phi, s = features(net, params, x), columns(loss, net.predict(params, x), target)
    rows = torch.einsum("ni,kno->knio", phi, widened(s)).flatten(2).flatten(0, 1)
    return rows.mT @ rows


def _is_regression(loss: Loss) -> bool:
    spec = loss.spec
    if spec is None or spec.of not in (mse, softmax_cross_entropy):
        known = "losses.softmax_cross_entropy or losses.mse"
        raise core.unexpected("laplace", f"loss to be {known}", loss)
    if spec["reduction"] != "sum":
        got = f"{loss}: the log-likelihood is a sum over the data"
        raise unexpected("laplace", "a loss with reduction='sum'", got)
    is_weighted = spec.arguments.get("weight") is not None
    if is_weighted or spec.arguments.get("label_smoothing"):
        name = "weight" if is_weighted else "label_smoothing"
        raise core.unexpected("laplace", f"a loss without {name}, which is no log-likelihood", loss)
    return spec.of is mse


@core.record
class Predictive:
    """The normal distribution of a network's output: a mean and a covariance for each example."""

    mean: Float[Tensor, "N O"]
    covariance: Float[Tensor, "N O O"]


@core.checked
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


@core.checked
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
    drawn = core.keys.normal(key.near(mean), (samples, *mean.shape)).to(mean.dtype)
    logits = mean + torch.einsum("nok,snk->sno", root, drawn)
    return torch.softmax(logits, -1).mean(0)
