"""Masks that travel beside a sequence: what is padding has no part in the answer."""

from functools import partial

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_number

import lincoln_fn as lf
from lincoln_fn import distributed, rules

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
    y, cache = last.forward((), (x, MASK))
    (dx, of_mask), _ = last.backward((), cache, torch.ones(3, 2))
    assert y.isfinite().all()
    assert dx.isfinite().all()
    assert of_mask is None
    assert not dx[~MASK].any()


@pytest.mark.parametrize(
    "around",
    [
        lambda layer: layer.replace(name="reader()"),
        lf.frozen,
        lf.checkpointed,
        lf.inference,
        lambda layer: lf.in_dtype(layer, torch.float64),
    ],
    ids=["another name", "frozen", "checkpointed", "inference", "in_dtype"],
)
@pytest.mark.parametrize(
    "layer",
    [
        lf.rnn(4),
        lf.gru(4),
        lf.lstm(4),
        lf.multi_head_attention(2),
        lf.transformer_encoder_block(2, dim_feedforward=5, dropout=0.0),
    ],
    ids=str,
)
def test_a_layer_takes_the_mask_under_any_name_and_within_what_is_around_it(layer, around):
    x = torch.where(MASK.unsqueeze(-1), normal(3, 6, 4).double(), 7.0)
    other = torch.where(MASK.unsqueeze(-1), x, -3.0)
    net = lf.serial(lf.masked(around(layer)), lf.masked_mean())
    params = net.init(lf.Key(0), (x, MASK))
    y = net.forward(params, (x, MASK))[0]
    assert same_number(net.forward(params, (other, MASK))[0], y)


def test_a_mask_trains_and_is_frozen_like_any_layer():
    tokens, target = torch.arange(18).reshape(3, 6) % 9, torch.tensor([0, 1, 1])
    net = lf.serial(lf.masked(lf.embedding(9, 4), lf.frozen(lf.gru(3))), lf.last_state())
    optimizer = lf.optim.sgd(3.0)
    x = tokens, MASK
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    assert lf.tree.paths(state.params) == ["0.0.weight"]
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    first = None
    for _ in range(30):
        state, value = step(state, (x, target))
        first = first or float(value)
    assert value < 0.5 * first


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (normal(3, 6, 2), "expected x to be (sequence, mask)"),
        ((normal(3, 6, 2), None), "expected x to be (sequence, mask)"),
    ],
)
def test_masked_names_what_it_was_given(x, said):
    net = lf.masked(lf.dense(2))
    with pytest.raises(lf.LayerError) as refused:
        net.init(lf.Key(0), x)
    assert said in str(refused.value)


def test_masked_mean_within_masked_is_refused_with_its_place():
    with pytest.raises(lf.LayerError, match=r"masked: expected masked_mean\(\) behind masked"):
        lf.masked(lf.dense(2), lf.masked_mean())


@pytest.mark.parametrize("layer", [lf.masked_mean(), lf.last_state()], ids=str)
@pytest.mark.parametrize(
    ("x", "said"),
    [
        (normal(3), "expected a sequence of shape (..., length, features), got (3,)"),
        (normal(3, 0, 2), "expected a sequence of shape (..., length, features), got (3, 0, 2)"),
        ((normal(3, 6, 2), MASK.float()), "expected a mask of bools of shape (3, 6)"),
        ((normal(3, 6, 2), MASK[:, :4]), "expected a mask of bools of shape (3, 6)"),
        ((normal(3, 6, 2), MASK, MASK), "expected x to be a sequence or (sequence, mask)"),
    ],
)
def test_what_is_no_sequence_with_its_mask_is_refused(layer, x, said):
    with pytest.raises(lf.LayerError) as refused:
        layer.forward((), x)
    assert said in str(refused.value)
    assert refused.value.where == layer.name.partition("(")[0]


@pytest.mark.parametrize(
    "around",
    [
        rules.feedback_alignment,
        rules.kolen_pollack,
        rules.sign_symmetric,
        rules.straight_through,
        lf.checkpointed,
        partial(distributed.fully_sharded, group=distributed.alone()),
    ],
    ids=["feedback", "kolen_pollack", "sign", "straight", "checkpointed", "sharded"],
)
def test_a_layer_within_another_gets_the_mask(around):
    x = lf.keys.normal(lf.Key(1), (2, 5, 3)), torch.arange(5) < torch.tensor([[3], [5]])
    net = lf.masked(around(lf.lstm(4)))
    y, _ = net.predict(net.init(lf.Key(0), x), x)
    assert (y[0, 3:] == 0).all()
    assert (y[0, :3] != 0).all()
