"""Linear recurrences: strong and weak decay in float32, and what they refuse."""

import pytest
import torch
from helpers import assert_says, cast, largest, normal, run, same_bits, same_number, uniform
from helpers.refusals import refusals

import lincoln_fn as lf

T = 50  # three chunks of 16 and two steps
U, KEYS = normal(2, T, 4), normal(2, T, 4, seed=1)
# Steps that forget nothing, a little, nearly all and all, next to each other.
DECAYS = torch.tensor([0.0, 1e-6, 0.1, 30.0, 1e4, 0.0, 1e-3, 2.0]).repeat(7)[:T, None]
FORMS = {
    "linear_scan": (lf.linear_scan(), ((-DECAYS * torch.ones(2, 1, 4)).exp(), U)),
    "selective_scan": (lf.selective_scan(4), (U, DECAYS.expand(2, T, 4), KEYS, U)),
    "gated_linear_recurrence": (lf.gated_linear_recurrence(),
        (U, torch.tensor([-1e4, -80.0, -5.0, 0.0, 30.0, 1e4]).repeat(9)[:T, None] + 0 * U, KEYS)),
    "linear_attention, decay of heads": (lf.linear_attention(2),
        (U, KEYS, U, -DECAYS.expand(2, T, 2))),
    "linear_attention, decay of features": (lf.linear_attention(2),
        (U, KEYS, U, -DECAYS * uniform(2, T, 4, seed=2))),
}  # fmt: skip


@pytest.mark.parametrize(("layer", "x"), FORMS.values(), ids=FORMS)
def test_float32_is_as_good_as_its_sums_at_any_decay(layer, x):
    params, g = layer.init(lf.Key(1), x), normal(2, T, 4, seed=3)
    given = run(layer, params, x, g)
    exact = run(layer, cast(params), cast(x), cast(g))
    assert all(leaf.isfinite().all() for leaf in lf.tree.leaves(given))
    terms = lf.tree.map(lambda leaf: max(1.0, largest(leaf)), exact)
    assert same_number(given, exact, terms=terms, dtype=torch.float32)


def test_a_small_decay_keeps_its_digits_after_a_large_one():
    # The sums up to each step are 1e4 and more; the decay between the last two steps is 0.1.
    log_decay = -torch.tensor([0.0, 1e4, 0.1])[:, None]
    ones = torch.ones(3, 1)
    y = lf.linear_attention(1).predict((), (ones, ones, ones, log_decay))
    expected = torch.tensor([[1.0], [1.0], [1 + torch.tensor(-0.1).exp()]])
    assert same_number(y, expected, length=4)


def test_bfloat16_adds_up_in_float32():
    ones = torch.ones(1, 600, 1, dtype=torch.bfloat16)
    y = lf.linear_scan().predict((), (ones, ones))  # in bfloat16, 256 + 1 is 256
    assert y.dtype is torch.bfloat16
    assert same_number(y[0, -1].float(), torch.tensor([600.0]), error=2**-8)


def test_a_gate_that_is_shut_has_the_gradient_0():
    # sqrt(1 - a^2) is steep where a is 1, but dL / dr is 0 there, and the product's limit is 0.
    ones, shut = torch.ones(1, 3, 2), torch.full((1, 3, 2), -200.0)
    layer = lf.gated_linear_recurrence()
    params = layer.init(lf.Key(0), (ones, shut, ones))
    y, (_, dr, _), dparams = run(layer, params, (ones, shut, ones), ones)
    zeros = torch.zeros_like(y)
    assert same_bits((y, dr.abs(), dparams.decay.abs()), (zeros, zeros, torch.zeros(2)))


def test_chunks_are_of_steps_and_not_of_examples():
    x = tuple(lf.keys.uniform(lf.Key(n), (5, 3, 2)) for n in range(2))
    chunked, whole = (lf.linear_scan(chunk_size=size).predict((), x) for size in (2, 3))
    assert same_number(chunked, whole, length=3)


A = torch.ones(2, 3, 4)
OF_STATE = torch.ones(2, 3, 5)
SCAN = lf.selective_scan(5)
PARAMS = SCAN.init(lf.Key(0), (A, A, OF_STATE, OF_STATE))
GATED = lf.gated_linear_recurrence()
HEADS = lf.linear_attention(2)


test_what_does_not_fit_is_refused = refusals("""
linear_scan().forward((), A) -> expected x to be (a, b) or (a, b, state)
linear_scan().forward((), (A, A[:, 1:])) -> expected a of shape (2, 2, 4), got (2, 3, 4)
linear_scan().forward((), (A[:, :0], A[:, :0])) -> with at least one step
linear_scan().forward((), (A, A, A)) -> expected state of shape (2, 4)
SCAN.forward(PARAMS, (A, A, OF_STATE, A)) -> expected C of shape (2, 3, 5), got (2, 3, 4)
SCAN.forward(PARAMS, (OF_STATE, A, A, A)) -> expected skip of shape (5,)
GATED.forward(GATED.init(Key(0), (A, A, A)), (A, A[:1], A)) -> the recurrence gate of shape
HEADS.forward((), (A, A, A, None, None, A)) -> (query, key, value[, log_decay[, state]])
HEADS.forward((), (A, A, A[..., :3])) -> features in 2 heads
HEADS.forward((), (A, A, A, A[..., :3])) -> log_decay of shape (2, 3, 2) or (2, 3, 4)
HEADS.forward((), (A, A, A, None, A)) -> expected state of shape (2, 2, 2, 2)
""")


def test_a_wrong_cotangent_is_refused():
    _, cache = lf.linear_scan().forward((), (A, A, None))
    for wrong in (A, (A, A), (A[:1], None)):
        assert_says("linear_scan: expected g", lf.linear_scan().backward, (), cache, wrong)


def test_a_causal_convolution_sees_no_later_position():
    layer, x = lf.causal_conv1d(3, 2, dilation=2), normal(2, 6, 4)
    params = layer.init(lf.Key(1), x)
    whole = layer.predict(params, x)
    weight, bias = params[2].weight, params[2].bias
    padded = torch.cat([torch.zeros(2, 2, 4), x], 1)
    expected = padded[:, :-2] @ weight[..., 0].mT + x @ weight[..., 1].mT + bias
    assert same_number(whole, expected)


def test_mambas_steps_begin_between_a_thousandth_and_a_tenth():
    layer, x = lf.mamba(64), normal(1, 2, 64)
    step = layer.init(lf.Key(1), x)[0][0][3][1][1]
    sizes = torch.nn.functional.softplus(step.bias)
    assert 0.001 <= sizes.min() < 0.002
    assert 0.05 < sizes.max() <= 0.1
