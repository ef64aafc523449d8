"""The Laplace approximation, held against exact Bayesian linear regression and autograd."""

import math

import pytest
import torch
from helpers import same_bits, same_number, same_statistics
from helpers.refusals import refusals
from torch.distributions import MultivariateNormal

import lincoln_fn as lf
from lincoln_fn import curvature, keys
from lincoln_fn.layers import dense

SIGMA, TAU = 0.3, 2.0
PHI = keys.normal(lf.Key(1), (7, 3)).double()
TARGET = keys.normal(lf.Key(2), (7, 2)).double()
BATCHES = [(PHI[:4], TARGET[:4]), (PHI[4:], TARGET[4:])]
MSE = lf.losses.mse(reduction="sum")
ONES = torch.cat([PHI, torch.ones(7, 1).double()], 1)


def exact():
    """Solve Bayesian linear regression: the precision of one output, the mean, the evidence."""
    precision = ONES.mT @ ONES / SIGMA**2 + TAU * torch.eye(4).double()
    mean = torch.linalg.solve(precision, ONES.mT @ TARGET / SIGMA**2)
    covariance = SIGMA**2 * torch.eye(7).double() + ONES @ ONES.mT / TAU
    evidence = sum(
        MultivariateNormal(torch.zeros(7).double(), covariance).log_prob(column)
        for column in TARGET.mT
    )
    return precision, mean, evidence


def linear():
    """Make the linear network of the posterior's mean."""
    _, mean, _ = exact()
    return lf.serial(lf.dense(2)), (dense.Params(mean[:-1], mean[-1]),)


def test_a_linear_regression_has_its_exact_posterior_predictive_and_evidence():
    precision, mean, evidence = exact()
    net, params = linear()
    posterior = curvature.laplace(net, params, BATCHES, MSE, prior_precision=TAU, noise_std=SIGMA)
    wanted = torch.kron(precision, torch.eye(2).double())
    assert same_number(posterior.precision, wanted)
    assert same_number(curvature.log_marginal_likelihood(posterior), evidence)
    x = keys.normal(lf.Key(3), (5, 3)).double()
    rows = torch.cat([x, torch.ones(5, 1).double()], 1)
    predictive = curvature.laplace_predictive(net, posterior, x)
    assert same_number(predictive.mean, rows @ mean)
    variance = torch.einsum("ni,ij,nj->n", rows, torch.linalg.inv(precision), rows)
    covariance = variance[:, None, None] * torch.eye(2).double()
    assert same_number(predictive.covariance, covariance)


def test_the_diagonal_posterior_has_the_diagonal_of_the_precision():
    precision, _, _ = exact()
    net, params = linear()
    posterior = curvature.laplace(
        net, params, BATCHES, MSE, structure="diagonal", prior_precision=TAU, noise_std=SIGMA
    )
    diagonal = precision.diagonal()
    assert same_number(posterior.precision[0].weight, diagonal[:-1, None].expand(3, 2))
    assert same_number(posterior.precision[0].bias, diagonal[-1:].expand(2))
    got = curvature.laplace_predictive(net, posterior, PHI)
    variance = (ONES**2 / diagonal).sum(1)
    covariance = variance[:, None, None] * torch.eye(2).double()
    assert same_number(got.covariance, covariance)
    value = ((PHI @ params[0].weight + params[0].bias - TARGET) ** 2).sum()
    square = sum((leaf**2).sum() for leaf in lf.tree.leaves(params))
    log_det = 2 * diagonal.log().sum()
    wanted = (
        -value / (2 * SIGMA**2)
        - 7 * math.log(2 * math.pi * SIGMA**2)
        - (TAU * square - 8 * math.log(TAU) + log_det) / 2
    )
    assert same_number(curvature.log_marginal_likelihood(posterior), wanted)


X = keys.normal(lf.Key(1), (20, 4)).double()
LABELS = (X @ keys.normal(lf.Key(2), (4, 3)).double()).argmax(1)
NET = lf.serial(lf.dense(6), lf.tanh(), lf.dropout(0.5), lf.dense(3))
PARAMS = NET.init(lf.Key(0), X)
LOSS = lf.losses.softmax_cross_entropy(reduction="sum")


def test_the_last_layers_precision_is_that_of_autograds_jacobian():
    posterior = curvature.laplace(NET, PARAMS, [(X, LABELS)], LOSS, prior_precision=TAU)
    phi = torch.cat([torch.tanh(X @ PARAMS[0].weight + PARAMS[0].bias), torch.ones(20, 1)], 1)
    p = NET.predict(PARAMS, X).softmax(1)
    wanted = TAU * torch.eye(21).double()
    for row, its in zip(phi, p, strict=True):
        jacobian = torch.kron(row[None], torch.eye(3).double())  # (3, 21)
        wanted = wanted + jacobian.mT @ (torch.diag(its) - torch.outer(its, its)) @ jacobian
    assert same_number(posterior.precision, wanted)


def test_probabilities_by_monte_carlo_near_an_integral():
    logits = curvature.Predictive(
        torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[[2.0, 0.5], [0.5, 1.0]]]).double()
    )
    # The difference of two logits is normal, with the variance 2 + 1 - 2 * 0.5.
    at = torch.linspace(-12, 14, 20001).double()
    density = torch.exp(-((at - 1) ** 2) / 4) / math.sqrt(4 * math.pi)
    wanted = torch.trapezoid(torch.sigmoid(at) * density, at)
    got = torch.cat(
        [curvature.laplace_probabilities(logits, key=lf.Key(i), samples=1000) for i in range(200)]
    )
    assert same_statistics(got[:, 0], mean=wanted)
    assert same_number(got.sum(1), torch.ones(200).double())
    again = curvature.laplace_probabilities(logits, key=lf.Key(0), samples=1000)
    assert same_bits(got[:1], again)


def of_loss(loss, **options):
    return curvature.laplace(NET, PARAMS, [(X, LABELS)], loss, **options)


def of_net(net, structure="last_layer", x=X, labels=LABELS):
    params = net.init(lf.Key(0), x)
    posterior = curvature.laplace(net, params, [(x, labels)], LOSS, structure=structure)
    return curvature.laplace_predictive(net, posterior, x)


CE = lf.losses.softmax_cross_entropy
test_wrong_losses_and_networks_are_refused = refusals("""
of_loss(CE()) -> reduction='sum'
of_loss(lf.losses.l1(reduction='sum')) -> expected loss to be losses.softmax_cross_entropy
of_loss(CE(label_smoothing=0.1, reduction='sum')) -> expected a loss without label_smoothing
of_loss(CE(weight=torch.ones(3), reduction='sum')) -> expected a loss without weight
of_loss(LOSS, structure='full') -> laplace: expected structure to be 'last_layer' or
curvature.laplace(NET, PARAMS, [], LOSS) -> at least one batch
of_net(serial(lf.dense(3), tanh())) -> whose last part is a dense layer
of_net(serial(conv1d(3, 1)), 'diagonal', torch.ones(2, 2, 4), torch.zeros(2, 4).long()) -> of shape
    (N, O), ... , got (2, 3, 4)
""")


@pytest.mark.parametrize("structure", ["last_layer", "diagonal"])
def test_half_precision_is_computed_in_float32(structure):
    net, x = lf.serial(lf.dense(5), lf.tanh(), lf.dense(3)), keys.normal(lf.Key(3), (6, 4))
    params = net.init(lf.Key(0), x)
    loss, labels = lf.losses.softmax_cross_entropy(reduction="sum"), torch.arange(6) % 3

    def predicted(dtype):
        these = lf.tree.map(lambda p: p.to(dtype), params)
        batches = [(x.to(dtype), labels)]
        posterior = curvature.laplace(net, these, batches, loss, structure=structure)
        return curvature.laplace_predictive(net, posterior, x[:2].to(dtype))

    half, single = predicted(torch.bfloat16), predicted(torch.float32)
    assert half.covariance.dtype is half.mean.dtype is torch.float32
    assert same_number(half.covariance, single.covariance, dtype=torch.bfloat16)
    sampled = curvature.laplace_probabilities(half, key=lf.Key(0), samples=5)
    assert sampled.dtype is torch.float32
