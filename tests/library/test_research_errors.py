"""Wrong arguments of the functions for research: what the errors say."""

import re

import pytest
import torch
from helpers.cases.case import normal

import lincoln_fn as lf
from lincoln_fn import attribution, curvature, inspect, per_example, replay, rules
from lincoln_fn.attribution import kinds
from lincoln_fn.attribution import rules as relevance_rules

X, LABELS = normal(6, 5), torch.tensor([0, 2, 1, 1, 0, 2])
NET = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3))
PARAMS = NET.init(lf.Key(0), X)
LOSS = lf.losses.softmax_cross_entropy()
NONE = lf.losses.softmax_cross_entropy(reduction="none")
SUM = lf.losses.softmax_cross_entropy(reduction="sum")
SGD = lf.optim.sgd(0.1)
PAIR = lf.branch(lf.dense(3), lf.dense(3), merge=lf.identity())
PAIR_LOSS = lf.losses.weighted({"a": (1.0, LOSS), "b": (1.0, LOSS)})
STEP = lf.make_step(NET, LOSS, SGD)
START = lf.init_state(NET, SGD, lf.Key(0), X)
BATCHES = [(X, LABELS)] * 3


def stepped(net, loss, gradient=None):
    step = lf.make_step(net, loss, SGD, gradient=gradient)
    return step(lf.init_state(net, SGD, lf.Key(0), X), (X, LABELS))


def in_curvature(function, loss, *arguments):
    return function(NET, PARAMS, X, loss, LABELS, *arguments)


def replayed(**arguments):
    return replay.Run(STEP, BATCHES, START, **arguments)


ONE_NUMBER = "expected one number, got (6,); use reduction='mean' or 'sum'"
A_PAIR = "to be a pair of a kind and a rule, got {}; write (kinds.DENSE, rules.epsilon())"
WRONG = {
    "Hessian of many losses": (
        lambda: in_curvature(curvature.hessian_vector_product, NONE, PARAMS), ONE_NUMBER,
    ),
    "diagonal of many losses": (lambda: in_curvature(curvature.ggn_diagonal, NONE), ONE_NUMBER),
    "factors of many losses": (lambda: in_curvature(curvature.kfac_factors, NONE), ONE_NUMBER),
    "empirical factors of two outputs": (
        lambda: curvature.kfac_factors(
            PAIR, PAIR.init(lf.Key(0), X), X, PAIR_LOSS, (LABELS, LABELS), fisher="empirical"
        ),
        "expected a prediction of one tensor, with the examples on axis 0",
    ),
    "kfac without its state": (
        lambda: stepped(NET, LOSS, curvature.kfac()),
        "kfac: expected the state of a gradient with factors, got (); "
        "write init_state(..., gradient=gradient)",
    ),
    "influence without parameters": (
        lambda: curvature.influence(lf.tanh(), (), X, LOSS, LABELS, (X, LABELS)),
        "influence: expected a network with trained parameters, got tanh()",
    ),
    "influence on one tensor": (
        lambda: in_curvature(curvature.influence, LOSS, X),
        "influence: expected test to be a tuple of 2 values, got float32[6, 5]",
    ),
    "laplace of one batch": (
        lambda: curvature.laplace(NET, PARAMS, (X, LABELS), SUM),
        "laplace: expected batches, got one batch, (float32[6, 5], int64[6]); write [(x, target)]",
    ),
    "laplace of inputs": (
        lambda: curvature.laplace(NET, PARAMS, [X], SUM),
        "laplace: expected a batch (x, target), got float32[6, 5]",
    ),
    "evidence of params": (
        lambda: curvature.log_marginal_likelihood(X),
        "log_marginal_likelihood: expected posterior to be a Posterior, got float32[6, 5]",
    ),
    "g as a list": (
        lambda: per_example.gradients(NET, PARAMS, NET.forward(PARAMS, X)[1], [1.0]),
        "per_example: expected g with the examples on axis 0, got [1.0]",
    ),
    "labels of other examples": (
        lambda: rules.with_label(X, LABELS[:2], 3),
        "with_label: expected labels to be class indices of shape (6,), got int64[2]",
    ),
    "floating labels": (
        lambda: rules.with_label(X, LABELS.float(), 3),
        "with_label: expected labels to be class indices of shape (6,), got float32[6]",
    ),
    "labels out of range": (
        lambda: rules.true_and_false_labels(lf.Key(0), X, LABELS + 1, 3),
        "with_label: expected labels from 0 to 2, got 3",
    ),
    "one class": (
        lambda: rules.true_and_false_labels(lf.Key(0), X, 0 * LABELS, 1),
        "true_and_false_labels: expected n_classes of at least 2, got 1",
    ),
    "another kind of local loss": (
        lambda: stepped(rules.local_losses(NET, 3), rules.local_loss(3, kind="similarity")),
        "local_loss: expected the output of head 0 to be a tensor, got (float32[6, 3], "
        "float32[6, 4]); give local_losses and local_loss the same kind",
    ),
    "a local loss of pairs": (
        lambda: stepped(rules.local_losses(NET, 3, kind="prediction"), rules.local_loss(3)),
        "local_loss: expected the output of head 0 to be a pair of logits and features, got "
        "float32[6, 3]; give local_losses and local_loss the same kind",
    ),
    "local losses of other classes": (
        lambda: rules.local_losses(NET, 4).init(lf.Key(0), X),
        "local_losses: expected a network that ends with logits of 4 classes, got float32[6, 3]",
    ),
    "a list of patches": (
        lambda: inspect.patched(NET, ["1"]),
        "patched: expected outputs to be a mapping of patches by path, got list",
    ),
    "outputs in another order": (
        lambda: inspect.outputs(PARAMS, NET, X),
        "the order is outputs(net, params, x)",
    ),
    "grad_cam at no path": (
        lambda: attribution.grad_cam(NET, PARAMS, X, path="7"),
        "grad_cam: expected the path of a layer, got '7'",
    ),
    "noise in words": (
        lambda: attribution.smooth_grad(NET, PARAMS, X, key=lf.Key(0), noise="a"),
        "smooth_grad: expected noise to be a finite number of at least 0, got 'a'",
    ),
    "inputs of two batches": (
        lambda: attribution.attribution_patching(NET, PARAMS, X, X[:2], 0),
        "attribution_patching: '': expected both runs to have outputs of one shape",
    ),
    "a rule without a kind": (
        lambda: attribution.composite(relevance_rules.epsilon()),
        "composite: expected choices[0] " + A_PAIR.format("epsilon(1e-06)"),
    ),
    "a layer for a kind": (
        lambda: attribution.composite(first=[(lf.dense, relevance_rules.flat())]),
        "composite: expected first[0] " + A_PAIR.format("(the constructor dense, flat())"),
    ),
    "a kind alone": (
        lambda: attribution.composite((kinds.DENSE, kinds.DENSE)),
        "composite: expected choices[0] " + A_PAIR.format("(a kind, a kind)"),
    ),
    "a function for a rule": (
        lambda: attribution.composite(by_path={"0": abs}),
        "composite: expected by_path['0'] to be a Rule, got the function abs",
    ),
    "bounds in another order": (
        lambda: relevance_rules.z_box(1.0, -1.0),
        "z_box: expected low up to high, got (1.0, -1.0)",
    ),
    "conservation of a tensor": (
        lambda: attribution.conservation(X),
        "conservation: expected relevance to be a Relevance, got float32[6, 5]",
    ),
    "a run saved in a folder's name": (
        lambda: replayed(saved="run"),
        "Run: expected saved to be a checkpoint.Directory, or a list of states, got 'run'",
    ),
    "a run of no network": (
        lambda: replayed(net=PARAMS[0]), "Run: expected net to be a Layer or None, got Params(",
    ),
    "a run of no loss": (
        lambda: replayed(loss=3), "Run: expected loss to be a Loss or None, got 3",
    ),
    "a tolerance below 0": (
        lambda: replay.first_difference(replayed(), tol=-1.0),
        "first_difference: expected tol of at least 0, got -1.0",
    ),
    "steps below 0": (
        lambda: replay.first_difference(replayed(), steps=-1),
        "first_difference: expected steps of at least 0 or None, got -1",
    ),
    "half a step": (
        lambda: replay.first_non_finite(replayed(), steps=1.5),
        "first_non_finite: expected steps to be an int of at least 0 or None, got 1.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_an_error_says_what_was_expected_and_what_was_given(case):
    wrong, message = WRONG[case]
    with pytest.raises(lf.LayerError, match=re.escape(message)):
        wrong()
