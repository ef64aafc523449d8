"""A loss that mixes the examples is refused where each one's own gradient counts."""

import pytest
import torch
from helpers import CASES, Case, begin, first_run, normal, same_number
from helpers.losses import TABLE
from helpers.one_by_one import run_alone
from helpers.refusals import assert_says, refusals

import lincoln_fn as lf
from lincoln_fn import losses
from lincoln_fn.core.declaration import gradients_of
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
OF_LOSSES = [
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


@pytest.mark.parametrize("case", OF_LOSSES, ids=lambda case: str(case[0]))
def test_what_a_loss_says_of_itself_is_so(case):
    loss = case[0]
    if loss.mixes_examples is None:
        # What takes the place of others may be alike where one in place of another is not.
        assert moves(*case) or not moves_others(*case)
    else:
        assert moves(*case) == loss.mixes_examples


def test_every_loss_is_among_the_cases():
    made = {str(loss).partition("(")[0] for loss, _, _ in OF_LOSSES}
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


# A layer that mixes the examples is refused, and never gives wrong gradients, trained or not.


UNBATCHED = [
    Case(lf.normalize(dim=0), normal(4, 3)),
    Case(lf.normalize(dim=-2), normal(4, 3)),
    Case(lf.matmul(), (normal(4, 4), normal(4, 4, seed=1))),
    Case(lf.linear_attention(2), tuple(normal(4, 6, seed=seed) for seed in range(3))),
    Case(lf.lstm(3, batch_first=False), normal(5, 2, 3)),
    Case(lf.gru(3), normal(5, 3)),
    Case(lf.conv1d(4, 3, padding=1), normal(4, 7)),
    Case(lf.layer_norm(), normal(4)),
    Case(lf.dense(4), normal(4)),
    Case(lf.softmin(0), normal(4, 6)),
]  # fmt: skip


def is_floating(leaf):
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.ndim > 0


def is_tested(case):
    """Tell whether x is of tensors, all of the same number of examples."""
    entries = case.x if isinstance(case.x, tuple) else (case.x,)
    lengths = {len(entry) for entry in entries if is_floating(entry)}
    return len(lengths) == 1 and min(lengths) > 1 and None not in entries and all(
        isinstance(entry, torch.Tensor) for entry in entries
    )  # fmt: skip


def mixes(case):
    """Tell whether the g of one example reaches the dx of another."""
    y, cache = case.layer.forward(case.params(), case.x)
    outputs = y if isinstance(y, tuple) else (y,)
    count = len(next(filter(is_floating, lf.tree.leaves(case.x))))
    for n in range(count):

        def alone(leaf, n=n):
            # The states after a sequence have the layers on axis 0.
            g = torch.zeros_like(leaf)
            if is_floating(leaf) and leaf is outputs[0] and len(leaf) == count:
                g[n] = normal(*leaf.shape[1:], seed=n)
            return g

        dx = case.layer.input_grad(case.params(), cache, lf.tree.map(alone, y))
        for leaf in filter(is_floating, lf.tree.leaves(dx)):
            if len(leaf) == count and torch.cat([leaf[:n], leaf[n + 1 :]]).any():
                return True
    return False


def check_refused(case):
    """Check that a layer is refused behind a trained one, if it mixes the examples."""
    if not mixes(case):
        return
    first = lf.prelu()
    if isinstance(case.x, tuple):
        first = lf.parallel(*(lf.prelu() if is_floating(x) else lf.identity() for x in case.x))
    net = lf.serial(first, lf.frozen(case.layer))
    params, y, cache = first_run(net, case.x)
    with pytest.raises(lf.LayerError, match="expected"):
        lf.per_example.gradients(net, params, cache, lf.tree.map(torch.ones_like, y))


@pytest.mark.parametrize("case", UNBATCHED, ids=str)
def test_a_layer_without_a_batch_is_refused(case):
    assert mixes(case)
    check_refused(case)


@pytest.mark.full
@pytest.mark.parametrize("case", [*filter(is_tested, CASES)], ids=str)
def test_a_layer_that_mixes_examples_is_refused(case):
    check_refused(case)


def test_a_norm_by_its_running_statistics_is_named():
    layer = lf.inference(lf.batch_norm(track_running_stats=False))
    x = normal(4, 3)
    params = layer.init(lf.Key(0), x)
    with pytest.raises(lf.LayerError, match=r"^batch_norm: expected"):
        gradients_of(layer).terms(params, layer.forward(params, x)[1], x)


def test_the_classes_of_tokens_are_no_examples():
    logits, tokens = normal(3, 4, 7), torch.tensor([[0, 1, 2, 3], [4, 5, 6, 0], [1, 2, 3, 4]])
    net = lf.serial(lf.parallel(lf.dense(7), lf.identity()), lf.token_log_probs())
    params, y, cache = first_run(net, (logits, tokens))
    g = torch.ones_like(y)
    each = run_alone(net, params, (logits, tokens), g)
    assert same_number(lf.per_example.gradients(net, params, cache, g), each, error=1e-6)


def own_layer(name, forward, back):
    return lf.Layer(name, lambda p, x: (forward(x), None), lambda p, cache, g: (back(g), ()))


OWN = {
    "alone": own_layer("twice()", lambda x: 2 * x, lambda g: 2 * g),
    "centred": own_layer("centred()", lambda x: x - x.mean(0), lambda g: g - g.mean(0)),
    "forwards": own_layer("own()", lambda x: 2 * x, lambda g: g.flip(0).cumsum(0).flip(0)),
    "backwards": own_layer("own()", lambda x: 2 * x, lambda g: g.cumsum(0)),
}


@pytest.mark.parametrize("name", OWN)
def test_a_layer_of_ones_own_is_tried(name):
    net, x, target = lf.serial(lf.dense(3), OWN[name], lf.dense(2)), normal(5, 4), torch.ones(5, 2)
    params, y, cache = first_run(net, x)
    for compute in (
        lambda: lf.per_example.gradients(net, params, cache, y),
        lambda: lf.per_example.squared_norms(net, params, cache, y),
        lambda: lf.curvature.kfac_factors(net, params, x, lf.losses.mse(), target),
    ):
        if name == "alone":
            compute()
            continue
        told = rf"^serial\[1\] {OWN[name].name[:-2]}\(\): .* the g of one reaches the dx of others"
        with pytest.raises(lf.LayerError, match=told):
            compute()


def test_a_layer_that_moves_examples_is_refused_with_a_backward_of_ones_own():
    moving = lf.permute(1, 0)
    net, x = lf.serial(lf.dense(4), moving.replace(backward=moving.backward)), torch.ones(4, 3)
    params, y, cache = first_run(net, x)
    assert_says("make it by its constructor", lf.per_example.squared_norms, net, params, cache, y)
