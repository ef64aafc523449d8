"""What else is computed of a network with a rule: by its own gradient, or by the true one."""

import pytest
import torch
from helpers import begin, first_run, normal, same_bits, same_number
from helpers.one_by_one import check, one_by_one

import lincoln_fn as lf
from lincoln_fn import attribution, curvature, per_example, rules

X, LABELS = normal(6, 5).double(), torch.tensor([0, 2, 1, 1, 0, 2])
PLAIN = lf.serial(lf.dense(7), lf.tanh(), lf.dense(3))
LOSS = lf.losses.softmax_cross_entropy()
RULES = [
    rules.feedback_alignment, rules.sign_symmetric, rules.kolen_pollack,
    rules.direct_feedback_alignment, rules.pepita,
]  # fmt: skip


def of_plain(tree):
    """Leave out what a rule has added to a tree of params."""
    return tuple(getattr(entry, "params", entry) for entry in tree[:3])


@pytest.fixture(params=RULES, ids=lambda rule: rule.__name__)
def ruled(request):
    net = request.param(PLAIN)
    params = net.init(lf.Key(0), X)
    return net, params, of_plain(params)


# The rule's own gradient


def test_kolen_pollacks_matrices_have_gradients_of_single_examples():
    net = rules.kolen_pollack(PLAIN)
    params, y, cache = first_run(net, X)
    g = normal(*y.shape, seed=1).double()
    each = per_example.gradients(net, params, cache, g)
    assert same_bits(each[0].feedback[0], each[0].params.weight)
    check(net, params, cache, g, one_by_one(net, params, cache, g))


def test_a_network_with_kolen_pollacks_matrices_learns_by_kfac():
    step, state = begin(rules.kolen_pollack(PLAIN), X, LOSS, gradient=curvature.kfac(0.1))
    values = [record.loss for _, record in lf.train(step, state, [(X, LABELS)] * 5)]
    assert values == sorted(values, reverse=True)


# The true gradient


def test_a_network_with_a_rule_is_explained_by_its_true_gradient(ruled):
    net, params, plain = ruled
    assert same_number(
        attribution.gradient(net, params, X, 1), attribution.gradient(PLAIN, plain, X, 1)
    )
    _, gap = attribution.integrated_gradients(net, params, X, 1)
    assert gap.abs().max() < 1e-10
    effects = attribution.attribution_patching(net, params, X, 2 * X, 1)
    assert same_number(effects[""], attribution.attribution_patching(PLAIN, plain, X, 2 * X, 1)[""])


def test_relevance_goes_back_through_a_network_with_a_rule(ruled):
    net, params, plain = ruled
    relevance = attribution.lrp(net, params, X, 1)
    assert same_number(relevance.x, attribution.lrp(PLAIN, plain, X, 1).x)


def test_curvature_is_that_of_the_function_and_not_of_the_rule(ruled):
    net, params, plain = ruled
    v = lf.tree.map(torch.cos, params)
    for product in (curvature.hessian_vector_product, curvature.gauss_newton_vector_product):
        expected = product(PLAIN, plain, X, LOSS, LABELS, of_plain(v))
        assert same_number(of_plain(product(net, params, X, LOSS, LABELS, v)), expected)
    diagonal = curvature.ggn_diagonal(net, params, X, LOSS, LABELS)
    assert same_number(of_plain(diagonal), curvature.ggn_diagonal(PLAIN, plain, X, LOSS, LABELS))
    batch = X[:2], LABELS[:2]
    of_rule = curvature.influence(net, params, X, LOSS, LABELS, batch, damping=0.1)
    assert same_number(
        of_rule, curvature.influence(PLAIN, plain, X, LOSS, LABELS, batch, damping=0.1)
    )


def test_straight_through_stays_as_it_stands_for_a_derivative():
    rounding = lf.Layer(
        "round()", lambda params, x: (x.round(), None), lambda params, cache, g: (0 * g, ())
    )
    net = lf.serial(lf.dense(4), rules.straight_through(rounding), lf.dense(3))
    params = net.init(lf.Key(0), X)
    weight = params[0].weight @ params[2].weight
    expected = weight[:, 1].expand_as(X)
    assert same_number(attribution.gradient(net, params, X, 1), expected)
