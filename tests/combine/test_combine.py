"""Compositions hand on all that their parts do; and layers made of other layers."""

import attrs
import pytest
import torch
from helpers import begin, normal, same_bits, same_number

import lincoln_fn as lf
from lincoln_fn.core.signatures import unbound

X = normal(5, 3)
G = normal(5, 2, seed=1)


@lf.record
class Noise(lf.State):
    key: lf.Key
    count: torch.Tensor


@lf.record
class Scale:
    factor: torch.Tensor
    noise: Noise


def init(key, x):
    return Scale(torch.tensor(2.0), Noise(key, torch.tensor(0)))


def forward(params, x):
    noise = lf.keys.uniform(params.noise.key, tuple(x.shape), dtype=x.dtype)
    return params.factor * x * noise, (x, noise)


def backward(params, cache, g):
    x, noise = cache
    return g * params.factor * noise, Scale((g * x * noise).sum(), params.noise)


def advance(params, cache):
    noise = Noise(params.noise.key.fold_in(1), params.noise.count + 1)
    return attrs.evolve(params, noise=noise)


# All that a layer can have of its own: a random forward, a state, and another predict.
NOISY = lf.Layer(
    "noisy()",
    forward,
    backward,
    init,
    predict=lambda params, x: params.factor * x / 2,
    grads=lambda params, cache, g: backward(params, cache, g)[1],
    advance=advance,
)


def test_an_empty_serial_is_the_identity():
    net = lf.serial()
    assert (net.name, net.init(lf.Key(0), X)) == ("serial()", ())
    y, cache = net.forward((), X)
    assert same_bits(y, X)
    dx, dparams = net.backward((), cache, G)
    assert same_bits(dx, G)
    assert dparams == net.grads((), cache, G) == net.advance((), cache) == ()


@pytest.mark.parametrize(
    "net", [lf.serial(lf.dense(3), lf.dense(3), lf.serial(lf.dense(3))), lf.repeat(3, lf.dense(3))]
)
def test_each_part_draws_its_parameters_from_a_key_of_its_own(net):
    params = net.init(lf.Key(0), X)
    weights = lf.tree.leaves(params)[::2]
    assert not same_bits(weights[0], weights[1])
    assert not same_bits(weights[1], weights[2])
    again = net.init(lf.Key(0), X)
    assert same_bits(params, again)
    other = net.init(lf.Key(1), X)
    assert not same_bits(other[0].weight, weights[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_init_looks_at_the_shape_and_dtype_of_its_example_alone(dtype):
    net = lf.serial(lf.dense(4), lf.tanh(), lf.dense(2))
    by_values = net.init(lf.Key(0), X.to(dtype))
    by_others = net.init(lf.Key(0), torch.full((1, 3), torch.nan, dtype=dtype))
    by_meta = net.init(lf.Key(0), torch.empty(7, 3, dtype=dtype, device="meta"))
    for one, other, meta in zip(*map(lf.tree.leaves, (by_values, by_others, by_meta)), strict=True):
        assert same_bits((one, one), (other, meta.to(one.device) if not meta.is_meta else one))
        assert (meta.shape, meta.dtype) == (one.shape, dtype)


def test_replace_brings_the_defaults_that_belong_to_the_new_rule():
    layer = NOISY.replace(backward=lambda params, cache, g: ("dx", "dparams"))
    assert (layer.grads(None, None, None), layer.input_grad(None, None, None)) == ("dparams", "dx")
    assert layer.predict is NOISY.predict
    layer = NOISY.replace(forward=lambda params, x: ("y", "cache"))
    assert layer.predict(None, None) == "y"
    assert layer.grads is NOISY.grads
    layer = NOISY.replace(
        forward=lambda params, x: ("y", None), predict=lambda params, x: "predicted"
    )
    assert layer.predict(None, None) == "predicted"
    layer = NOISY.replace(name="quiet()")
    assert (repr(layer), layer.advance, unbound(layer.init)) == ("quiet()", advance, init)
    assert NOISY.name == "noisy()"


@pytest.mark.parametrize(
    ("fast", "optimizer"), [(True, lf.optim.sgd(0.1)), (False, lf.optim.adam(0.1))]
)
@pytest.mark.parametrize("part", [
    lf.in_dtype(lf.dense(4), torch.float64), lf.multi_head_attention(2),
    lf.transformer_encoder_block(2, 8), lf.residual(lf.dense(4)), lf.checkpointed(lf.dense(4)),
], ids=str)  # fmt: skip
def test_what_stands_before_a_frozen_composition_is_trained(part, fast, optimizer):
    """Its gather once read records that a walk for dx alone does not make."""
    x, target = lf.keys.normal(lf.Key(1), (2, 3, 5)), torch.zeros(2, 3, 2)
    states = []
    for middle in (part, lf.frozen(part)):
        net = lf.serial(lf.dense(4), middle, lf.dense(2))
        step, state = begin(net, x, lf.losses.mse(), optimizer, fast=fast)
        states.append(step(state, (x, target))[0])
    trained, frozen = states
    assert same_number(frozen.params[0].weight, trained.params[0].weight)
    assert same_number(frozen.params[2].bias, trained.params[2].bias)


def rows_of(params, x):
    return x @ params.weight, x


def rows_of_backward(params, x, g):
    return g @ params.weight.mT, lf.layers.embedding.Params(x.mT @ g)


# An embedding of distributions over indices, which has a dx.
TABLE = lf.Layer(
    "table()", rows_of, rows_of_backward,
    lambda key, x: lf.embedding(5, 3).init(key, torch.zeros(1, dtype=torch.long)),
)  # fmt: skip


@pytest.mark.parametrize("wrap", [lf.frozen, lambda layer: lf.frozen(lf.frozen(layer))])
def test_scores_do_not_train_a_frozen_embedding(wrap):
    frozen, plain = lf.tied(wrap(TABLE), lf.dense(3)), lf.tied(TABLE, lf.dense(3))
    x = normal(4, 5)
    params = frozen.init(lf.Key(0), x)
    inner = params[0].params
    inner = getattr(inner, "params", inner)
    y, cache = frozen.forward(params, x)
    g = normal(*y.shape, seed=1)
    dx, dparams = frozen.backward(params, cache, g)
    of_x, expected = plain.backward((inner, params[1]), plain.forward((inner, params[1]), x)[1], g)
    assert dparams[0] is params[0]
    assert same_bits((dx, lf.tree.leaves(dparams)), (of_x, lf.tree.leaves(expected[1])))
    assert lf.tree.paths(frozen.grads(params, cache, g)) == ["1.weight", "1.bias"]
    assert [row.path for row in lf.summary(frozen, x).layers][-1] == "2"
    step, state = begin(frozen, x, lf.losses.mse(), params=params)
    state, _ = step(state, (x, y + 1))
    assert torch.equal(lf.tree.leaves(state.params[0], states=True)[0], inner.weight)


def test_tied_takes_a_tuple_of_indices_alone_in_init_as_in_forward():
    net, x = lf.tied(lf.embedding(5, 3), lf.dense(3)), torch.tensor([[1, 4]])
    params = net.init(lf.Key(0), (x,))
    assert same_bits(params, net.init(lf.Key(0), x))
    assert same_bits(net.predict(params, (x,)), net.predict(params, x))
