"""Laws that hold for every layer and loss, whatever the shapes, dtypes and values."""

import pytest
import torch
from helpers.compare import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import lincoln_fn as lf
from lincoln_fn import keys, losses
from lincoln_fn.testing.contract import check_untouched, snapshot
from lincoln_fn.testing.sample import random_like
from lincoln_fn.training.data import batches

DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])
SEEDS = st.integers(0, 2**64 - 1).map(lf.Key)
SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)
NUMBERS = st.floats(-1e4, 1e4, width=32)
ANY_SHAPE = [
    *(lf.sigmoid(), lf.tanh(), lf.relu(), lf.log_sigmoid(), lf.softmax(), lf.log_softmax()),
    *(lf.dense(4), lf.dense(4, bias=False), lf.serial(lf.dense(3), lf.tanh(), lf.dense(2))),
]


def tensors(shapes=SHAPES, dtypes=DTYPES, numbers=NUMBERS):
    """Draw tensors with the values that break things: 0, ties, huge and tiny numbers."""

    def filled(shape):
        values = arrays.arrays("float32", shape, elements=numbers, fill=numbers)
        return st.builds(lambda array, dtype: torch.from_numpy(array).to(dtype), values, dtypes)

    return shapes.flatmap(filled)


def assert_pure(function, *arguments):
    """Call a function twice: it gives the same bit for bit, and leaves its arguments alone."""
    before = snapshot(arguments=arguments)
    first, second = function(*arguments), function(*arguments)
    check_untouched("a law", "the function", before)
    assert same_bits(first, second)
    return first


def assert_layer_is_pure(layer, params, x, key):
    y, cache = assert_pure(layer.forward, params, x)
    g = random_like(y, key)
    dx, dparams = assert_pure(layer.backward, params, cache, g)
    assert same_bits(assert_pure(layer.grads, params, cache, g), dparams)
    assert same_bits(assert_pure(layer.input_grad, params, cache, g), dx)
    assert_pure(layer.predict, params, x)
    advanced = assert_pure(layer.advance, params, cache)
    assert lf.tree.same_structure(advanced, params, states=True)
    for gradient, of in zip(lf.tree.leaves(dparams), lf.tree.leaves(params), strict=True):
        assert (gradient.shape, gradient.dtype) == (of.shape, of.dtype)
    return dx


@settings(max_examples=8)  # check_layer asks it of every layer
@pytest.mark.parametrize("layer", ANY_SHAPE, ids=str)
@given(x=tensors(), key=SEEDS)
def test_layers_are_pure_for_any_shape_dtype_and_values(layer, x, key):
    dx = assert_layer_is_pure(layer, layer.init(key, x), x, key)
    assert (dx.shape, dx.dtype) == (x.shape, x.dtype)


SINGLE = st.sampled_from(
    [lf.sigmoid(), lf.tanh(), lf.relu(), lf.softmax(), lf.log_softmax(), lf.dense(4), lf.dense(2)]
)


@given(parts=st.tuples(SINGLE, SINGLE, SINGLE), x=tensors(), key=SEEDS)
def test_serial_is_associative(parts, x, key):
    a, b, c = parts
    flat, left, right = (
        lf.serial(a, b, c), lf.serial(lf.serial(a, b), c), lf.serial(a, lf.serial(b, c)),
    )  # fmt: skip
    p, q, r = flat.init(key, x)
    nested = [(flat, (p, q, r)), (left, ((p, q), r)), (right, (p, (q, r)))]
    results = []
    for net, params in nested:
        y, cache = net.forward(params, x)
        dx, dparams = net.backward(params, cache, random_like(y, key))
        results.append((y, dx, dparams, net.grads(params, cache, random_like(y, key))))
    for result in results[1:]:
        assert same_bits(lf.tree.leaves(result), lf.tree.leaves(results[0]))


BINARY = ("log_loss", "log_sigmoid_loss", "sigmoid_cross_entropy")
CATEGORICAL = ("cross_entropy", "nll", "softmax_cross_entropy")
REDUCTIONS = st.sampled_from(["mean", "sum", "none"])
# What each loss may be given: probabilities, log-probabilities, logits.
DOMAINS = dict(
    zip(
        (*BINARY, *CATEGORICAL),
        (st.floats(0, 1, width=32), st.floats(-1e4, 0, width=32), NUMBERS) * 2,
        strict=True,
    )
)
ROWS = arrays.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=4)


def draw_loss(name, reduction, data, dtypes=DTYPES):
    categorical = name in CATEGORICAL
    shapes = ROWS if categorical else SHAPES
    prediction = data.draw(tensors(shapes, dtypes, DOMAINS[name]))
    shape = tuple(prediction.shape)
    if categorical:
        shape, classes = (shape[0], *shape[2:]), shape[1]
        labels = keys.uniform(data.draw(SEEDS), shape, 0, classes).long().clamp(max=classes - 1)
    else:
        labels = keys.bernoulli(data.draw(SEEDS), shape, 0.5)
    return getattr(losses, name)(reduction=reduction), prediction, labels


@pytest.mark.parametrize("name", DOMAINS)
@given(reduction=REDUCTIONS, data=st.data())
def test_losses_are_pure_finite_and_never_below_0(name, reduction, data):
    loss, prediction, labels = draw_loss(name, reduction, data)
    value, cache = assert_pure(loss.forward, prediction, labels)
    gradient = assert_pure(loss.backward, cache, torch.ones_like(value))
    assert (gradient.shape, gradient.dtype) == (prediction.shape, prediction.dtype)
    assert value.dtype is prediction.dtype
    assert torch.isfinite(value).all()
    # eta puts log_loss below 0 by its own size.
    assert (value >= -1e-7 * prediction.numel()).all()
    assert torch.isfinite(gradient).all()


NET = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3), lf.log_softmax())
SGD = lf.optim.sgd(0.1)


@pytest.mark.full
@given(
    n=st.integers(0, 9), m=st.integers(0, 9), size=st.integers(1, 8), key=SEEDS,
    dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_n_and_m_steps_are_n_plus_m_steps(n, m, size, key, dtype):
    data = keys.normal(lf.Key(0), (7, 5), dtype=dtype), torch.arange(7) % 3
    step = lf.make_step(NET, losses.nll(), SGD)

    def go(state, steps):
        epochs = 1 + steps // batches(data, size).per_epoch
        source = batches(data, size, key=key, epochs=epochs, start=int(state.step))
        training = lf.train(step, state, source)
        while int(state.step) < steps:
            state, _ = next(training)
        return state

    begin = lf.init_state(NET, SGD, key, data[0])
    resumed = go(go(begin, n), n + m)
    whole = go(begin, n + m)
    assert int(whole.step) == n + m
    assert same_bits(resumed, whole)
