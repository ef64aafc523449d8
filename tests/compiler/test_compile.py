"""Compiled steps: the same as eager for every kind of layer and optimizer, and the same errors."""

import functools
from collections import deque, namedtuple

import numpy as np
import pytest
import torch
from helpers import CE, MSE, SGD, assert_says, begin, drawn, error_of, layer_of, trace, twice
from helpers.compare import same_bits, same_number
from helpers.compiling import CASES, T, X, assert_compiles, compiles, compiles_in_full, optim

import lincoln_fn as lf
from lincoln_fn.recording import flatten, make_builder


@pytest.fixture(scope="module")
def steps():
    """Each case's step, its compiled form and its first state; compiled once for all tests."""
    begun = {
        name: begin(net, batch[0], loss, optimizer)
        for name, (net, loss, optimizer, batch) in CASES.items()
    }
    return {name: (step, lf.compile(step), state) for name, (step, state) in begun.items()}


@pytest.mark.full(but=("momentum",))
@compiles
@pytest.mark.parametrize("name", CASES)
def test_five_compiled_steps_are_five_eager_steps(steps, name):
    step, compiled, first = steps[name]
    batch = CASES[name][3]
    ours = theirs = first
    masks = []
    for _ in range(5):
        ours, value = compiled(ours, batch)
        theirs, expected = step(theirs, batch)
        assert same_number((ours, value), (theirs, expected))
        masks += [ours.params[0].mask] if name == "dense" else []
    assert int(ours.step) == 5
    assert len(compiled.run.graphs.kinds) == 1
    # Eager's, as `same_number` has seen, and a new one each time.
    for i, mask in enumerate(masks):
        assert not any(same_bits(mask, other) for other in masks[:i])


def squares():
    """Give the sum of all numbers' squares, as a loss."""
    return lf.Loss(
        "squares()",
        lambda z, target: (sum(y.pow(2).sum() for y in z), z),
        lambda z, g=1.0: tuple(2 * g * y for y in z),
    )


def averaging():
    """Windows that the edge cuts off, and fractional ones of a volume: Inductor has both wrong."""
    form = {"stride": 2, "ceil_mode": True}
    return lf.parallel(
        lf.serial(lf.prelu(), lf.avg_pool1d(3, **form)),
        lf.serial(lf.prelu(), lf.avg_pool2d(3, **form)),
        lf.serial(lf.prelu(), lf.avg_pool3d(3, **form)),
        lf.serial(lf.prelu(), lf.fractional_max_pool3d(2, (3, 4, 2))),
    )


# A user's layer that asks torch for variances, of a row and of all.
SPREAD = layer_of(lambda x: x * x.var(1, keepdim=True) + x.var(correction=0))
SIX = drawn(3, 2, 5, 6)
WINDOWS = *(drawn(0, 3, 1, *(6,) * n) for n in (1, 2, 3)), drawn(0, 2, 3, 5, 6, 7)
WORDS = torch.tensor([[1, 2], [3, 0]]), torch.tensor([3, 2]), torch.tensor([2, 1])
# A network, its loss and optimizer, and a batch.
MORE = {
    "variances of many": (
        lf.serial(lf.batch_norm(), lf.flatten(), lf.layer_norm(), SPREAD), MSE, SGD,
        (drawn(0, 2, 3, 24, 24), drawn(2, 2, 1728)),
    ),
    "variances of a single row": (
        lf.serial(lf.layer_norm(), SPREAD), MSE, SGD, (drawn(0, 1, 7), drawn(2, 1, 7))
    ),
    "a mask that a small product draws": (
        lf.serial(lf.dropout(0.1), lf.dense(6), lf.dropout(0.1)), MSE, SGD, (SIX, SIX)
    ),
    "a product that is flattened": (
        lf.serial(lf.dense(10), lf.flatten(), lf.dense(3)), CE, SGD,
        (drawn(5, 16, 2, 8), torch.arange(16) % 3),
    ),
    "many small products": (
        lf.serial(
            lf.dense(12), lf.transformer_encoder_block(3, 24, 0.0), lf.flatten(), lf.dense(3)
        ), CE, optim.sgd(0.1, 0.9), (drawn(0, 8, 5, 6), torch.arange(8) % 3),
    ),
    "a sequence there and back": (
        lf.serial(lf.lstm(16, bidirectional=True), lf.flatten(), lf.dense(10)), CE, SGD,
        (drawn(2, 6, 3, 4), T),
    ),
    "a linear scan": (
        lf.serial(
            lf.parallel(lf.prelu(), lf.prelu(), lf.prelu()), lf.gated_linear_recurrence(),
            lf.flatten(), lf.dense(3),
        ), CE, SGD, (tuple(drawn(i, 6, 40, 4) for i in range(3)), T)
    ),
    "ctc": (
        lf.serial(lf.dense(4), lf.log_softmax()), lf.losses.ctc(), SGD, (drawn(5, 3, 2, 3), WORDS)
    ),
    "windows that Inductor has wrong": (averaging(), squares(), SGD, (WINDOWS, torch.zeros(1))),
}  # fmt: skip


@compiles_in_full
@pytest.mark.parametrize("name", MORE)
def test_compiled_steps_are_eager_steps(name):
    net, loss, optimizer, (x, target) = MORE[name]
    donate = name == "a sequence there and back"
    assert_compiles(net, optimizer, x, target, donate=donate, loss=loss)


@compiles_in_full
def test_a_layer_that_draws_from_torchs_generator_draws_the_same():
    noisy = layer_of(lambda x: x + torch.rand_like(x))
    step, state = begin(lf.serial(lf.dense(4), noisy, lf.dense(3)), X)
    compiled = lf.compile(step)
    compiled(state, (X, T))
    values = []
    for run in (step, compiled):
        torch.manual_seed(3)
        values.append([run(state, (X, T))[1] for _ in range(2)])
    assert same_number(values[1], values[0])
    assert values[0][0] != values[0][1]


BAD = {
    "a label too large": (X, T + 7),
    "a label below 0": (X, T - 1),
    "labels all ignored": (X, torch.full_like(T, 9)),
    "another number of features": (X[:, :4], T),
    "another dtype": (X.double(), T),
    "too few labels": (X, T[:5]),
    "labels that are floats": (X, T.float()),
    "no tensor": (X.numpy(), T),
    "nan": (X * torch.nan, T),
    "no pair": (X, T, T),
}


@compiles_in_full
@pytest.mark.parametrize("name", BAD)
def test_errors_are_the_eager_steps(steps, name):
    step, compiled, state = steps["dense"]
    assert error_of(compiled, state, BAD[name]) == error_of(step, state, BAD[name])


def test_strides_and_shapes_make_graphs_of_their_own(uncompiled):
    square, other = drawn(2, 2, 5, 5)
    step, state = begin(lf.dense(5), square, MSE)
    compiled = lf.compile(step)
    assert lf.compile(compiled) is compiled
    assert repr(compiled) == repr(step)
    # One tensor in two places, and then two.
    for batch in ((square, square), (square, other), (square.T, other)):
        assert same_number(compiled(state, batch), step(state, batch))
    assert len(compiled.run.graphs.kinds) == 2


@pytest.mark.parametrize("empty", [0, 2])  # leaves without memory, which look as if they shared it
def test_what_a_step_remembers_does_not_grow(empty, uncompiled):
    def backward(params, x, g):
        return g, ((g * x).sum(), *map(torch.zeros_like, params[1:]))

    layer = lf.Layer(
        "scale()",
        lambda params, x: (params[0] * x, x),
        backward,
        lambda key, x: (torch.ones(()), *(torch.ones(0) for _ in range(empty))),
    )
    step, state = begin(layer, X, MSE, donate=True)
    step = lf.compile(step)
    for rows in (6, 6, 5, 6, 5, 6):
        state, _ = step(state, (X[:rows], X[:rows]))
    assert len(step.run.graphs.kinds) == 2
    assert [*map(len, step.run.graphs.after.values())] == [2, 1]


def traced_value(net, loss, batch):
    """Trace a step for a batch of zeros, and give the graph's value for the batch."""
    zeros = lf.tree.map(torch.zeros_like, batch)
    step, state = begin(net, zeros[0], loss)
    traced = trace(step, state, zeros)
    *_, value = traced.graph(*lf.tree.leaves((state, batch), states=True))
    return value


def loss_by(values):
    """A user's loss on (N, C), of a function (prediction, target) -> value, with no gradient."""
    return lf.Loss("mine()", lambda z, t: (values(z, t), z), lambda z, g=1.0: torch.zeros_like(z))


INDEXING = {
    "gather": lambda z, t: z.gather(1, t[:, None]).sum(),
    "index": lambda z, t: z[torch.arange(6), t].sum(),
    "index_select": lambda z, t: z.index_select(1, t).sum(),
    "scatter": lambda z, t: z.scatter(1, t[:, None], 2.0).sum(),
    "scatter_": lambda z, t: torch.zeros_like(z).scatter_(1, t[:, None], 2.0).sum(),
    "index_put": lambda z, t: z.index_put((torch.arange(6), t), torch.tensor(2.0)).sum(),
    "index_add": lambda z, t: z.index_add(1, t, torch.ones(6, 6)).sum(),
    "nll_loss": torch.nn.functional.nll_loss,
    "embedding": lambda z, t: torch.nn.functional.embedding(t, z).sum(),
}


@pytest.mark.parametrize("name", INDEXING)
def test_a_users_indices_out_of_range_make_the_value_nan(name):
    loss = loss_by(INDEXING[name])
    n = 6 if name == "embedding" else 5
    right = torch.tensor([0, 2, 1, 4, 2, 0])
    value = traced_value(lf.identity(), loss, (X, right))
    assert same_number(value, loss.forward(X, right)[0])
    for wrong in (n, -n - 1):
        assert traced_value(lf.identity(), loss, (X, torch.tensor([*right[1:], wrong]))).isnan()


def test_indices_from_the_end_are_in_range():
    last = torch.full((6,), -5)
    value = traced_value(lf.identity(), loss_by(INDEXING["index"]), (X, last))
    assert same_number(value, X[:, 0].sum())


UNSEEN = [
    (lf.losses.soft_margin(), 1.0, 0.5),
    (lf.losses.sigmoid_cross_entropy(), 1.0, 1.5),
    (lf.losses.sigmoid_cross_entropy(), 0.0, -0.5),
]


@pytest.mark.full(but=("[loss0-",))
@pytest.mark.parametrize(("loss", "right", "wrong"), UNSEEN)
def test_labels_that_no_check_can_see_make_the_value_nan(loss, right, wrong):
    target = torch.full((6, 5), right)
    assert traced_value(lf.identity(), loss, (X, target)).isfinite()
    target[3, 2] = wrong
    assert traced_value(lf.identity(), loss, (X, target)).isnan()


def test_a_variance_below_0_makes_the_value_nan():
    loss = lf.losses.gaussian_nll()
    assert traced_value(twice(), loss, (X.abs(), X)).isfinite()
    assert traced_value(twice(), loss, (X, X)).isnan()


UNTRACEABLE = {
    "a branch": (lambda x: x if x.sum() > 1e9 else -x, "DataDependentOutputException"),
    "item": (lambda x: x * x[0, 0].item(), "DataDependentOutputException"),
    "tolist": (lambda x: x * x[0, 0].tolist(), "DataDependentOutputException"),
    "numpy": (lambda x: torch.from_numpy(x.numpy()), "RuntimeError"),
    "numpy's functions": (lambda x: torch.from_numpy(np.exp(np.asarray(x))), "RuntimeError"),
    "a shape by values": (lambda x: x[x > 0].sum() * x, "DynamicOutputShapeException"),
}


@pytest.mark.parametrize(("f", "problem"), UNTRACEABLE.values(), ids=UNTRACEABLE)
@pytest.mark.parametrize("is_alone", [False, True])
def test_a_layer_that_cannot_be_traced_is_named(f, problem, is_alone):
    layer = layer_of(f, predict=lambda params, x: x)
    step, state = begin(layer if is_alone else lf.serial(lf.dense(5), lf.serial(layer)), X, MSE)
    step(state, (X, X))
    where = "make_step(mine()" if is_alone else "serial[1] serial[0] mine()"
    said = f"^{where} ... : cannot be traced ( ... {problem} ... write it in tensor operations"
    assert_says(said, lf.compile(step), state, (X, X))


def test_a_number_among_the_leaves_is_refused():
    counting = optim.Optimizer("counting()", lambda p: {"count": 0}, lambda p, dp, s: (p, s))
    step, state = begin(lf.dense(2), X, MSE, counting)
    message = "expected tensors alone, got 0 at 0.opt_state.count; a number that changes"
    assert_says(message, lf.compile(step), state, (X, X[:, :2]))


def test_a_loss_of_several_numbers_is_refused_as_eagerly():
    step, state = begin(lf.dense(2), X, lf.losses.mse(reduction="none"))
    for refusing in (step, lf.compile(step)):
        assert_says("^mse ... : expected one number, got (6, 2)", refusing, state, (X, X[:, :2]))


@pytest.mark.full
def test_each_precision_of_products_has_a_graph_of_its_own(precision, uncompiled):
    step, state = begin(lf.dense(3), X)
    compiled = lf.compile(step)
    for name in ("highest", "high", "medium", "high"):
        precision(name)
        compiled(state, (X, T))
    assert len(compiled.run.graphs.kinds) == 3


@lf.record
class Pair:
    first: object
    second: object


@lf.record
class Named(Pair):
    """A pair that its parent cannot make: with a name, which is no leaf."""

    name: str = lf.static(default="")


Point = namedtuple("Point", "x y")
TREES = {
    "tensor": X,
    "nothing": (),
    "records": Pair(Named(X, T, "inner"), (Pair(T, None), X)),
    "state": (lf.Key(3), X),
    "one_entry": (Pair((X,), ()),),
    "deep": functools.reduce(lambda tree, _: Pair((tree, X), [T]), range(110), X),
    "containers": {"list": [X, T], "deque": deque([T, X]), "a": Point(X, {"z": T, "b": X})},
}


@pytest.mark.parametrize("name", TREES)
def test_a_tree_is_put_together_as_it_was(name):
    leaves, structure = flatten(TREES[name])
    new = list(map(torch.clone, leaves))
    of_built, structure_of_built = flatten(make_builder(structure)(new))
    assert structure_of_built == structure
    assert all(ours is theirs for ours, theirs in zip(of_built, new, strict=True))
