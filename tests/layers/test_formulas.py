"""The layers, and the faster functions in their place, against formulas written out once more."""

import pytest
import torch
from helpers.cases.case import normal
from helpers.cases.graphs import EDGES, attended
from helpers.compare import same_bits, same_number

import lincoln_fn as lf
from lincoln_fn.fastpath import fast

# The formulas in layers/, and the faster functions that take their place.
in_both_versions = pytest.mark.parametrize(
    "version", [lambda layer: layer, fast], ids=["formula", "fast"]
)

X = normal(5, 3, 4).double()
G = normal(5, 3, 4, seed=1).double()


def exponentials(x):
    return x.exp() / x.exp().sum(1, keepdim=True)


# By layer: y, and dx, as the docstring derives them.
FORMULAS = {
    lf.sigmoid(): (lambda x: 1 / (1 + torch.exp(-x)), lambda x, y, g: g * y * (1 - y)),
    lf.tanh(): (lambda x: (x.exp() - torch.exp(-x)) / (x.exp() + torch.exp(-x)),
        lambda x, y, g: g * (1 - y**2)),
    lf.relu(): (lambda x: torch.where(x > 0, x, 0), lambda x, y, g: torch.where(x > 0, g, 0)),
    lf.log_sigmoid(): (lambda x: torch.log(1 / (1 + torch.exp(-x))),
        lambda x, y, g: g * (1 - 1 / (1 + torch.exp(-x)))),
    lf.softmax(dim=1): (exponentials, lambda x, y, g: y * (g - (g * y).sum(1, keepdim=True))),
    lf.log_softmax(dim=1): (lambda x: x - x.exp().sum(1, keepdim=True).log(),
        lambda x, y, g: g - exponentials(x) * g.sum(1, keepdim=True)),
}  # fmt: skip


@in_both_versions
@pytest.mark.parametrize("layer", FORMULAS, ids=str)
def test_activations_are_their_formulas(layer, version):
    y_formula, dx_formula = FORMULAS[layer]
    layer = version(layer)
    y, cache = layer.forward((), X)
    dx, dparams = layer.backward((), cache, G)
    assert same_number((y, dx), (y_formula(X), dx_formula(X, y_formula(X), G)))
    assert dparams == ()


@in_both_versions
@pytest.mark.parametrize("layer", [lf.softmax(dim=1), lf.log_softmax(dim=1)], ids=str)
def test_a_row_of_the_softmaxes_is_the_product_with_the_jacobian(layer, version):
    layer = version(layer)
    x, g = X[0, :, 0], G[0, :, 0]
    p = x.exp() / x.exp().sum()
    if layer.name.startswith("log"):
        jacobian = torch.eye(3) - p.expand(3, 3)
    else:
        jacobian = torch.diag(p) - torch.outer(p, p)
    _, cache = layer.forward((), X)
    dx = layer.backward((), cache, G)[0][0, :, 0]
    assert same_number(dx, g @ jacobian)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (5, 4), (2, 5, 4), (2, 3, 5, 4)], ids=str)
def test_dense_is_its_sums(shape, has_bias):
    layer = lf.dense(6, bias=has_bias)
    x, g = normal(*shape).double(), normal(*shape[:-1], 6, seed=1).double()
    params = layer.init(lf.Key(0), x)
    y, cache = layer.forward(params, x)
    dx, dparams = layer.backward(params, cache, g)
    w = params.weight
    b = params.bias if has_bias else torch.zeros(6).double()
    terms = [
        (y, (x.unsqueeze(-1) * w).sum(-2) + b),
        (dx, (g.unsqueeze(-2) * w).sum(-1)),
        (dparams.weight, (x.unsqueeze(-1) * g.unsqueeze(-2)).reshape(-1, 4, 6).sum(0)),
    ]
    if has_bias:
        terms.append((dparams.bias, g.reshape(-1, 6).sum(0)))
    for given, expected in terms:
        assert same_number(given, expected)
    assert (dparams.bias is not None) is has_bias
    assert (cache is x) or same_bits(cache, x)


def test_graph_attention_has_the_digits_of_float64():
    x, layer = (normal(5, 4).double(), EDGES), lf.graph_attention(2)
    params = layer.init(lf.Key(0), x)
    assert same_number(layer.predict(params, x), attended(params, x))
