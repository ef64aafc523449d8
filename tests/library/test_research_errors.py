"""Wrong arguments of the functions for research: what the errors say."""

import torch
from helpers.cases.case import normal
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import replay

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


test_an_error_says_what_was_expected_and_what_was_given = refusals("""
in_curvature(curvature.hessian_vector_product, NONE, PARAMS) -> expected one number, got (6,); use
    reduction='mean' or 'sum'
curvature.kfac_factors(PAIR, PAIR.init(Key(0), X), X, PAIR_LOSS, (LABELS, LABELS),
    fisher='empirical') -> expected a prediction of one tensor, with the examples on axis 0
stepped(NET, LOSS, curvature.kfac()) -> ^kfac: expected the state of a gradient with factors, got
    (); write init_state(..., gradient=gradient)
curvature.influence(tanh(), (), X, LOSS, LABELS, (X, LABELS)) -> ^influence: expected a network with
    trained parameters, got tanh()
in_curvature(curvature.influence, LOSS, X) -> ^influence: expected test to be a tuple of 2 values,
    got float32[6, 5]
curvature.laplace(NET, PARAMS, (X, LABELS), SUM) -> ^laplace: expected batches, got one batch,
    (float32[6, 5], int64[6]); write [(x, target)]
curvature.log_marginal_likelihood(X) -> ^log_marginal_likelihood: expected posterior to be a
    Posterior, got float32[6, 5]
per_example.gradients(NET, PARAMS, NET.forward(PARAMS, X)[1], [1.0]) -> ^per_example: expected g
    with the examples on axis 0, got [1.0]
rules.with_label(X, LABELS[:2], 3) -> ^with_label: expected labels to be class indices of shape
    (6,), got int64[2]
rules.true_and_false_labels(Key(0), X, LABELS + 1, 3) -> ^with_label: expected labels from 0 to 2,
    got 3
stepped(rules.local_losses(NET, 3), rules.local_loss(3, kind='similarity')) -> ^local_loss: expected
    the output of head 0 to be a tensor, got (float32[6, 3], float32[6, 4]); give local_losses and
    local_loss the same kind
rules.local_losses(NET, 4).init(Key(0), X) -> ^local_losses: expected a network that ends with
    logits of 4 classes, got float32[6, 3]
inspect.patched(NET, ['1']) -> ^patched: expected outputs to be a mapping of patches by path, got
    list
inspect.outputs(PARAMS, NET, X) -> the order is outputs(net, params, x)
attribution.grad_cam(NET, PARAMS, X, path='7') -> ^grad_cam: expected the path of a layer, got '7'
attribution.smooth_grad(NET, PARAMS, X, key=Key(0), noise='a') -> ^smooth_grad: expected noise to
    be a finite number of at least 0, got 'a'
attribution.attribution_patching(NET, PARAMS, X, X[:2], 0) -> ^attribution_patching: '': expected
    both runs to have outputs of one shape
attribution.composite(attribution.rules.epsilon()) -> ^composite: expected choices[0] to be a pair
    of a kind and a rule, got epsilon(1e-06); write (kinds.DENSE, rules.epsilon())
attribution.composite(by_path={'0': abs}) -> ^composite: expected by_path['0'] to be a Rule, got the
    function abs
attribution.rules.z_box(1.0, -1.0) -> ^z_box: expected low up to high, got (1.0, -1.0)
replayed(saved='run') -> ^Run: expected saved to be a checkpoint.Directory, or a list of states, got
    'run'
replay.first_difference(replayed(), steps=-1) -> ^first_difference: expected steps of at least 0 or
    None, got -1
""")
