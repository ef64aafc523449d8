"""What a layer declares once is read by every walk: of ours, of their faster twins, of a user's."""

import pickle
from functools import partial

import pytest
import torch
from helpers import CASES, assert_says, same_number
from helpers.cases.case import cast
from helpers.one_by_one import norms_of, one_by_one

import lincoln_fn as lf
from lincoln_fn import curvature, per_example, rules, terms
from lincoln_fn.attribution import lrp
from lincoln_fn.core.declaration import declared_by, gradients_of, kind_of
from lincoln_fn.layers import dense
from lincoln_fn.per_example import forms, network


@lf.record
class Matrix:
    weight: torch.Tensor
    bias: torch.Tensor | None


def forward(params, x):
    return x @ params.weight + params.bias, x


def backward(params, x, g):
    return g @ params.weight.mT, Matrix(x.mT @ g, g.sum(0))


def own_terms(params, x, g):
    return Matrix(terms.Outer(x, g), terms.sum_rows(g))


lf.declare(forward, backward, kind="dense", params=Matrix, terms=own_terms)


def test_a_faster_layer_is_of_the_same_kind():
    layers = [case.layer for case in CASES]
    assert [kind_of(lf.fast(layer)) for layer in layers] == [kind_of(layer) for layer in layers]


def init(key, x):
    drawn = lf.dense(4).init(key, x)
    return Matrix(drawn.weight, drawn.bias)


OWN = lf.Layer("own()", forward, backward, init)
X = lf.keys.normal(lf.Key(1), (6, 3), dtype=torch.float64)
TARGET = torch.tensor([0, 1, 1, 0, 1, 0])
LOSS = lf.losses.softmax_cross_entropy()


def of(layer):
    """Make a network, its params of float64 and what it computes of X."""
    net = lf.serial(layer, lf.tanh(), lf.dense(2))
    params = cast(net.init(lf.Key(2), X))
    y, cache = net.forward(params, X)
    return net, params, cache, LOSS.backward(LOSS.forward(y, TARGET)[1])


def test_a_users_layer_has_from_one_declaration_what_a_dense_layer_has(monkeypatch):
    own, known = of(OWN), of(lf.dense(4))
    monkeypatch.setattr(network, "_one_by_one", None)  # neither asks for one example at a time
    assert same_number(per_example.squared_norms(*own), per_example.squared_norms(*known))
    (net, params, _, _), (_, plain, _, _) = own, known
    factors, expected = (
        curvature.kfac_factors(net, params, X, LOSS, TARGET) for net, params, _, _ in (own, known)
    )
    assert {*factors} == {*expected} == {"0", "2"}
    assert all(same_number(factors[path], expected[path]) for path in factors)
    ggn, diagonal = (
        curvature.ggn_diagonal(net, params, X, LOSS, TARGET) for net, params, _, _ in (own, known)
    )
    assert same_number(lf.tree.leaves(ggn), lf.tree.leaves(diagonal))
    assert rules.has_matrices(OWN)
    assert str(rules.feedback_alignment(net).parts[0]) == "feedback_alignment(own())"
    assert same_number(lrp(net, params, X, 1).x, lrp(known[0], plain, X, 1).x)


def test_kfac_preconditions_a_users_layer_as_a_dense_layer():
    gradient, key = curvature.kfac(0.1), lf.Key(0)
    own, known = (
        gradient.compute(*given, gradient.init(*given[:2]), key)[0]
        for given in map(of, (OWN, lf.dense(4)))
    )
    assert same_number(lf.tree.leaves(own), lf.tree.leaves(known))
    net, params, cache, g = of(OWN)
    assert not same_number(own[0].weight, net.grads(params, cache, g)[0].weight)


def test_a_declaration_goes_where_the_functions_go():
    bound = lf.Layer("bound()", partial(forward), partial(backward), init)
    for layer in (
        bound,
        pickle.loads(pickle.dumps(OWN)),
        OWN.replace(name="other()"),
        lf.fast(OWN),
    ):
        assert (kind_of(layer), gradients_of(layer).terms) == ("dense", own_terms)
    flipped = OWN.replace(backward=lambda params, x, g: backward(params, x, -g))
    assert gradients_of(flipped).terms is None
    assert kind_of(flipped) == "dense"
    assert gradients_of(lf.dense(3).replace(input_grad=lambda *given: None)).terms is dense.terms
    assert kind_of(OWN.replace(forward=lambda params, x: (x, None))) is None


def test_a_wrong_declaration_is_named():
    assert_says(
        "declare: expected kind to be one of dense, ... 'dens'", lf.declare, forward, kind="dens"
    )
    with pytest.raises(lf.LayerError, match="declare: expected a function of the layer, without"):
        lf.declare(partial(forward), kind="dense")
    assert declared_by(forward).kind == "dense"


def test_a_second_declaration_adds_to_the_first():
    def other(params, x):
        return forward(params, x)

    lf.declare(other, kind="norm", terms=own_terms)
    lf.declare(other, kind="dense")
    assert (declared_by(other).kind, declared_by(other).terms) == ("dense", own_terms)


def single(case):
    return case.layer.composition is None and lf.tree.leaves(case.params())


# Batch norm mixes the examples. The gradient of a linear head's matrix comes from the loss, already
# summed. The others make a layer's weight: their gradients are computed for one example after the
# other.
NO_TERMS = ("batch_norm", "jvp", "linear_head", "spectral_norm", "weight_norm")


@pytest.mark.parametrize("case", [case for case in CASES if single(case)], ids=str)
def test_every_layer_with_params_declares_terms_and_so_does_its_faster_twin(case):
    for layer in (case.layer, lf.fast(case.layer)):
        declared = gradients_of(layer)
        has_terms = bool(declared.terms or declared.dx_and_terms)
        assert has_terms != layer.name.startswith(NO_TERMS), layer


def test_a_step_that_sees_the_whole_matrix_is_that_of_the_terms():
    net, params, cache, g = of(OWN)
    found = network.terms_of("test", net, params, cache, g)[0].weight
    each = one_by_one(net, params, cache, g)[0].weight
    assert same_number(forms.gradients(found, params[0].weight), each)
    assert same_number(forms.measure(found, params[0].weight)[0], norms_of([each]))
