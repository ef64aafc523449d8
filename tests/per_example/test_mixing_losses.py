"""A loss that mixes the examples is refused where each one's own gradient counts."""

import pytest
import torch
from helpers import begin, normal
from helpers.losses import TABLE
from helpers.refusals import assert_says, refusals

import lincoln_fn as lf
from lincoln_fn import losses
from lincoln_fn.losses.loss import moves_others

X, CLASSES = normal(5, 3), torch.tensor([0, 1, 2, 0, 1])
MASK = torch.tensor([True, False, True, True, True])


def own(mixes=None, centred=False):
    """Make a loss of one's own: a squared error, of differences to the mean or not."""

    def forward(prediction, target):
        d = prediction - target
        return (d - d.mean(0) if centred else d).square().sum(), d

    def backward(d, g=1.0):
        return 2 * g * (d - d.mean(0) if centred else d)

    return lf.Loss("own()", forward, backward, mixes)


OTHERS = [
    (losses.router_z(), X, None),
    (losses.router_z(), X, MASK),
    (losses.router_balance(), X, None),
    (losses.vector_quantization(), (X, X + 0.1), None),
    (losses.flow_nll(), (X, X[:, 0]), None),
    (losses.weighted({"a": (1.0, losses.mse()), "b": (0.5, losses.l1())}), (X, X), (X + 1,) * 2),
    (losses.weighted({"a": (1.0, losses.mse()), "b": (0.5, losses.nt_xent())}),
     (X, (X, X + 1)), (X + 1, None)),
    (losses.from_layer(lf.graph(lambda y, t: (y - t).square())), X, X + 1),
    (losses.from_layer(lf.graph(lambda y, t: (y - y.mean(0)) * t)), X, X + 1),
    (losses.through(lf.select(1), losses.mse()), (X, X), X + 1),
    (losses.through(lf.mean(0, keepdim=True), losses.mse()), X, X[:1]),
    (losses.through(lf.parallel(lf.tanh(), lf.tanh()), losses.nt_xent()), (X, X + 1), None),
    (losses.example_weighted(losses.mse()), X, (X + 1, X[:, 0].abs())),
    (losses.example_weighted(losses.nt_xent()), (X, X + 1), (None, X[:, 0].abs())),
    (lf.rules.similarity_matching(3), X, CLASSES),
    (lf.rules.similarity_matching(3), normal(5, 3, 2, 2), CLASSES),
    (own(), X, X.flip(0)),
    (own(centred=True), X, X.flip(0)),
]  # fmt: skip
CASES = [
    (row.loss(reduction), row.prediction, row.target)
    for row in TABLE
    if row.batched or all(leaf.ndim > 1 for leaf in lf.tree.leaves(row.prediction))
    for reduction in ("sum", "mean")
] + OTHERS


def moves(loss, prediction, target):
    """Put each example into the place of each other one, and look at the gradients of the rest."""
    count = len(lf.tree.leaves(prediction)[0])
    of_pairs = loss.name.startswith("info_nce")  # an example is a row and a column

    def at(leaf, examples):
        if leaf.ndim == 0 or len(leaf) != count:
            return leaf
        return leaf[examples][:, examples] if of_pairs else leaf[examples]

    def gradients(order):
        given = lf.tree.map(lambda leaf: at(leaf, order), (prediction, target))
        value, cache = loss.forward(*given)
        g = lf.tree.leaves(loss.backward(cache, torch.ones_like(value)))
        return [leaf for leaf in g if len(leaf) == count]

    every = torch.arange(count)
    whole = gradients(every)
    for n in range(count):
        for m in range(count):
            order = every.clone()
            order[n] = m
            rest = every[every != n]
            for g, other in zip(whole, gradients(order), strict=True):
                if not torch.allclose(at(g, rest), at(other, rest), 1e-4, 1e-6):
                    return True
    return False


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0]))
def test_what_a_loss_says_of_itself_is_so(case):
    loss = case[0]
    if loss.mixes_examples is None:
        # What takes the place of others may be alike where one in place of another is not.
        assert moves(*case) or not moves_others(*case)
    else:
        assert moves(*case) == loss.mixes_examples


def test_every_loss_is_among_the_cases():
    made = {str(loss).partition("(")[0] for loss, _, _ in CASES}
    names = {name for name in losses.__all__ if name.islower()}
    assert names - made == {"ctc", "grpo"} - made  # of other axes


def clipped(loss):
    gradient = lf.per_example.clipped(1.0)
    return lf.make_step(lf.dense(3), loss, lf.optim.sgd(0.1), gradient=gradient)


NET, BALANCE = lf.dense(3), losses.router_balance()
PARAMS = NET.init(lf.Key(0), X)
test_a_loss_that_mixes_examples_is_refused = refusals("""
clipped(losses.nt_xent()) -> ^make_step: clipped(1.0): expected a loss in which ... , got nt_xent()
clipped(losses.info_nce()) -> expected a loss in which ... , got info_nce()
clipped(rules.similarity_matching(3)) -> expected a loss in which ... , got similarity_matching(3)
clipped(BALANCE) -> expected a loss in which ... , got router_balance()
clipped(losses.weighted({'a': (1.0, losses.mse()), 'b': (0.5, losses.nt_xent())})) -> expected a
    loss in which ... , got weighted(
clipped(losses.reinforce(baseline='leave_one_out')) -> got reinforce(baseline='leave_one_out')
clipped(own(mixes=True)) -> expected a loss in which ... , got own()
curvature.ggn_diagonal(NET, PARAMS, X, BALANCE, None) -> expected a loss in which ... , got
    router_balance()
curvature.kfac_factors(NET, PARAMS, X, BALANCE, None) -> expected a loss in which ... , got
    router_balance()
curvature.influence(NET, PARAMS, X, BALANCE, None, (X, None)) -> expected a loss in which ... , got
    router_balance()
""")


def stepped(loss, target):
    step, state = begin(lf.dense(3), X, loss, gradient=lf.per_example.clipped(1.0))
    return step(state, (X, target))


def test_a_loss_of_ones_own_is_tried_on_the_first_batch():
    assert_says("^make_step: clipped(1.0): ... , got own()", stepped, own(centred=True), X)
    stepped(own(), X)
    stepped(own(mixes=False, centred=True), X)  # it says so


def test_a_mean_over_what_is_not_ignored_is_tried_on_the_first_batch():
    loss = losses.softmax_cross_entropy()
    stepped(loss, CLASSES)
    with pytest.raises(lf.LayerError, match=r"got softmax_cross_entropy\(\); .*reduction='sum'"):
        stepped(loss, torch.where(MASK, CLASSES, -100))
