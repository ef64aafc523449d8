"""Masks that travel beside a sequence: what is padding has no part in the answer."""

from functools import partial

import pytest
import torch
from helpers import CASES, assert_says, first_run, normal, run, same_number

import lincoln_fn as lf
from lincoln_fn.walk.composition import mask_form

LENGTHS = torch.tensor([3, 1, 4])
MASK = torch.arange(6) < LENGTHS[:, None]


def reader(last):
    return lf.serial(
        lf.masked(
            lf.embedding(9, 4),
            lf.lstm(3, bidirectional=True),
            lf.layer_norm(),
            lf.dropout(0.5),
            lf.dense(4),
            lf.multi_head_attention(2),
            lf.transformer_encoder_block(2, dim_feedforward=5),
        ),
        last,
        lf.dense(2),
    )


@pytest.mark.parametrize("last", [lf.masked_mean(), lf.last_state()], ids=str)
@pytest.mark.parametrize("fast", [False, True])
def test_the_answer_is_that_of_each_sequence_alone(last, fast):
    net = reader(last)
    tokens = torch.arange(18).reshape(3, 6) % 9
    params = net.init(lf.Key(0), (tokens, MASK))
    used = lf.fast(net) if fast else net
    y = used.predict(params, (tokens, MASK))
    for i, length in enumerate(LENGTHS):
        alone = tokens[i : i + 1, :length], MASK[i : i + 1, :length]
        assert same_number(y[i : i + 1], used.predict(params, alone))


@pytest.mark.parametrize("last", [lf.masked_mean(), lf.last_state()], ids=str)
def test_padding_that_is_not_finite_does_no_harm(last):
    x = torch.where(MASK.unsqueeze(-1), normal(3, 6, 2), torch.nan)
    y, (dx, of_mask), _ = run(last, (), (x, MASK), torch.ones(3, 2))
    assert y.isfinite().all()
    assert dx.isfinite().all()
    assert of_mask is None
    assert not dx[~MASK].any()


X = normal(3, 6, 4)
LAYERS = {
    "rnn": lf.rnn(4),
    "gru": lf.gru(4),
    "lstm": lf.lstm(4, bidirectional=True),
    "scan": lf.scan(lf.gru_cell(4)),
    "attention": lf.multi_head_attention(2),
    "grouped attention": lf.grouped_query_attention(2, 1),
    "block": lf.transformer_encoder_block(2, dim_feedforward=5, dropout=0.0),
}


def own(layer, **options):
    """Make a combinator of one's own that leaves its only part as it is."""

    def there(visit, params, x):
        y, record = visit(0, params[0], x)
        return y, (record,)

    def back(visit, params, cache, g):
        dx, record = visit(0, params[0], cache[0], g)
        return dx, (record,)

    return lf.walk.composition("own", (layer,), there, back, **options)


AROUND = {
    "alone": lambda layer: layer,
    "fast": lf.fast,
    "a name": lambda layer: layer.replace(name="mine()"),
    "fast within own": lambda layer: own(lf.fast(layer), mask="part"),
    "own": own,
    "own that says so": partial(own, mask="part"),
    "repeat": lambda layer: lf.repeat(1, layer),
    "repeat of fast": lambda layer: lf.fast(lf.repeat(2, layer)),
    "serial": lambda layer: lf.serial(lf.dense(4), layer),
    "residual": lf.residual,
    "branch": lambda layer: lf.branch(layer, lf.identity(), merge=lf.select(0)),
    "parallel": lf.parallel,
    "frozen": lf.frozen,
    "checkpointed": lf.checkpointed,
    "inference": lf.inference,
    "in_dtype": lambda layer: lf.in_dtype(layer, torch.float64),
    "shared": lf.shared,
    "tapped": lambda layer: lf.tapped(lf.serial(layer), "0"),
    "masked": lf.masked,
    "weight_norm": lambda layer: lf.serial(lf.weight_norm(lf.dense(4)), layer),
    "straight_through": lf.rules.straight_through,
    "feedback_alignment": lf.rules.feedback_alignment,
    "kolen_pollack": lf.rules.kolen_pollack,
    "sign_symmetric": lf.rules.sign_symmetric,
    "sharded": partial(lf.distributed.fully_sharded, group=lf.distributed.alone()),
    "fixed_point": lf.fixed_point,
    "lora": lambda layer: lf.map_layers(lambda part: part, layer),
}
HONOURED = set(AROUND) - {
    "own", "repeat", "repeat of fast", "serial", "residual", "branch", "parallel", "shared",
    "tapped", "masked", "weight_norm", "fixed_point",
}  # fmt: skip


# Padding before the entries and behind them, so that layers of one direction see it, too.
WITHIN = MASK & (torch.arange(6) >= torch.tensor([1, 0, 2])[:, None])
OTHER = torch.where(WITHIN.unsqueeze(-1), X, 5.0)


def is_honoured(net):
    """Return whether what is masked leaves the other outputs as they are."""
    params = net.init(lf.Key(0), (X, WITHIN))
    ys = [net.forward(params, (x, WITHIN))[0][0][WITHIN] for x in (X, OTHER)]
    return same_number(*ys)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_padding_that_is_not_masked_moves_the_outputs(layer):
    params = layer.init(lf.Key(0), X)
    ys = [lf.tree.leaves(layer.predict(params, x))[0][WITHIN] for x in (X, OTHER)]
    assert not same_number(*ys)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", LAYERS)
def test_a_mask_is_honoured_or_refused(name, around):
    made = AROUND[around](LAYERS[name])
    if around in HONOURED:
        assert is_honoured(lf.masked(made))
        assert is_honoured(lf.fast(lf.masked(lf.dense(4), made)))
        return
    assert_says("^masked: expected a layer that takes the mask", lf.masked, made)


@pytest.mark.parametrize("name", LAYERS)
def test_parts_that_change_take_the_mask_as_they_are_now(name):
    layer, first = LAYERS[name], lf.masked(lf.dense(4), lf.dense(4))
    changed = first.rebuild((lf.dense(4), layer))
    assert is_honoured(changed)
    assert is_honoured(changed.rebuild((lf.tanh(), lf.dense(4))))
    mapped = lf.map_layers(
        lambda part: lf.gru(4) if part.name == "tanh()" else part, lf.masked(lf.tanh(), layer)
    )
    assert is_honoured(mapped)
    lost = first.rebuild((lf.dense(4), lf.residual(layer)))
    assert_says("expected a layer that takes the mask", is_honoured, lost)


def test_a_layer_of_ones_own_takes_the_mask_if_it_declares_it():
    def forward(params, x):
        h, mask = x
        return (h * mask.unsqueeze(-1)).cumsum(1), mask

    def backward(params, mask, g):
        return (g.flip(1).cumsum(1).flip(1) * mask.unsqueeze(-1), None), ()

    lf.declare(forward, mask="sequence")
    net = lf.masked(lf.Layer("running_sum()", forward, backward), lf.dense(2))
    assert is_honoured(net)
    lf.testing.check_layer(net, net.init(lf.Key(0), (X, MASK)), (X, MASK))


MINE = lf.Layer("mine()", lambda params, x: (x.cumsum(1), None), lambda params, cache, g: (g, ()))
MIXING = {
    "mine()": MINE, "serial(mine())": lf.serial(MINE), "softmax(dim=1)": lf.softmax(1),
    "residual(softmax(dim=1))": lf.residual(lf.softmax(1)), "group_norm(2)": lf.group_norm(2),
    "layer_norm((6, 4))": lf.layer_norm((6, 4)), "causal_conv1d(4, 2)": lf.causal_conv1d(4, 2),
    "own": own(lf.dense(4)), "weight_norm(conv1d(6, 1))": lf.weight_norm(lf.conv1d(6, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXING)
def test_a_layer_that_may_mix_positions_is_refused_by_its_name(name):
    match = "^masked: expected a layer that takes the mask, or computes each position by itself"
    assert_says(f"{match}, got {name}", lf.masked, lf.dense(4), MIXING[name])


def test_a_flow_is_refused_as_its_log_det_is_a_sum_over_all_positions():
    with pytest.raises(lf.LayerError, match=r"^masked: expected a .* mask.*, got coupling"):
        lf.masked(lf.coupling(lf.dense(2)))


def test_a_layer_that_is_refused_may_mix_the_padding_in_between_two_masked():
    net = lf.serial(lf.masked(lf.dense(4)), lf.parallel(MINE, lf.identity()), lf.masked(lf.gru(2)))
    params, y, cache = first_run(net, (X, MASK))
    (dx, of_mask), _ = net.backward(params, cache, (torch.ones_like(y[0]), None))
    assert dx.shape == X.shape
    assert of_mask is None


BY_POSITION = (
    lf.relu(), lf.layer_norm(), lf.rms_norm((4,)), lf.glu(), lf.softmax(-1), lf.dropout(0.0),
    lf.scale(2.0), lf.swiglu(3), lf.weight_norm(lf.dense(4)), lf.inference(lf.dropout(0.5)),
    lf.residual(lf.serial(lf.dense(4), lf.gelu())), lf.frozen(lf.dense(2)),
    lf.branch(lf.dense(2), lf.dense(2), merge=lf.concatenate()), own(lf.dense(2), mask="position"),
    lf.mixture_of_experts(lf.dense(2), (lf.dense(3),) * 2), lf.graph(lambda x: 2 * x.exp() - x),
)  # fmt: skip


@pytest.mark.parametrize("layer", BY_POSITION, ids=str)
def test_a_layer_that_computes_each_position_by_itself_gets_the_sequence_alone(layer):
    assert mask_form(layer) == "position"
    assert is_honoured(lf.masked(layer, lf.gru(4)))


def form_by_trying(case):
    """Find how a layer takes a mask: in the form in which what is masked has no effect."""
    x, params = case.x, case.params()
    mask = torch.arange(x.shape[1]) != (torch.arange(len(x)) % x.shape[1])[:, None]
    other = torch.where(mask.unsqueeze(-1), x, 5.0)
    for form, given in {
        "position": lambda h: h, "sequence": lambda h: (h, mask), "state": lambda h: (h, None, mask)
    }.items():  # fmt: skip
        try:
            ys = [lf.tree.leaves(case.layer.predict(params, given(h)))[0] for h in (x, other)]
            is_still = same_number(*(y[mask] for y in ys))
        except (lf.LayerError, TypeError, AttributeError, IndexError, RuntimeError):
            continue
        if is_still:
            return form
    return None


def test_what_takes_a_mask_says_so():
    found = {}
    for case in CASES:
        is_sequence = isinstance(case.x, torch.Tensor) and case.x.ndim == 3
        if is_sequence and case.x.is_floating_point() and case.x.shape[1] > 1:
            found[str(case)] = (form_by_trying(case), mask_form(case.layer))
    assert {form for forms in found.values() for form in forms} > {"position", "sequence", "state"}
    wrong = {
        name: forms
        for name, forms in found.items()
        if forms[0] != forms[1]
        and (forms[1] == "position" or forms[0] not in ("position", None))  # it need not say it
    }
    assert wrong == {}
