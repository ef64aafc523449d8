"""Arguments in torch's order are refused, with what to write; ours pass as they are."""

import warnings

import pytest
import torch
from helpers.cases.case import normal
from helpers.refusals import refusals

import lincoln_fn as lf

test_torchs_order_is_refused_with_what_to_write = refusals(
    """
conv2d(1, 8, 3) -> ^conv2d: expected ( ... conv2d(8, 3) ... conv2d(1, 8, stride=3)
conv2d(3, 64, 7) -> ^conv2d: expected ( ... conv2d(64, 7)
conv2d(16, 3, 5) -> ^conv2d: expected ( ... conv2d(3, 5)
conv_transpose2d(64, 32, 4) -> ^conv_transpose2d: expected ( ... conv_transpose2d(32, 4)
batch_norm(64) -> ^batch_norm: expected ( ... batch_norm() ... batch_norm(eps=64)
instance_norm(3) -> ^instance_norm: expected ( ... instance_norm()
group_norm(2, 64) -> ^group_norm: expected ( ... group_norm(2)
lstm(28, 128) -> ^lstm: expected ( ... lstm(128) ... lstm(28, num_layers=128)
transformer_encoder_block(64, 4) -> ^transformer_encoder_block: expected ( ...
    transformer_encoder_block(4)
""",
    globals(),
)


OURS = [
    lambda: lf.conv2d(8, 3, 2), lambda: lf.conv2d(8, 3, 1, 1), lambda: lf.conv2d(8, 1, 2),
    lambda: lf.conv2d(768, 16, 16), lambda: lf.conv2d(96, 11, 4), lambda: lf.conv2d(64, 7, 2, 3),
    lambda: lf.conv2d(8, 3, 3), lambda: lf.conv2d(8, 4, 2, 1), lambda: lf.conv2d(8, 4, 1),
    lambda: lf.conv_transpose2d(8, 2, 2), lambda: lf.conv2d(16, (3, 5), 2),
    lambda: lf.conv2d(1, 8, stride=3), lambda: lf.batch_norm(1e-3), lambda: lf.batch_norm(eps=64),
    lambda: lf.group_norm(2, 1e-3), lambda: lf.lstm(28, 2), lambda: lf.lstm(28, num_layers=20),
    lambda: lf.transformer_encoder_block(4, 64),
]  # fmt: skip


@pytest.mark.parametrize("made", OURS, ids=lambda made: str(made()))
def test_our_order_passes(made):
    assert isinstance(made(), lf.Layer)


def test_probabilities_that_do_not_sum_to_one_warn_once():
    x, target = normal(5, 3), torch.tensor([0, 1, 1, 0, 1])
    net, optimizer = lf.serial(lf.dense(2), lf.sigmoid()), lf.optim.sgd(0.1)
    step = lf.make_step(net, lf.losses.cross_entropy(), optimizer)
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):
            state, _ = step(state, (x, target))
        lf.make_step(net, lf.losses.cross_entropy(), optimizer)(
            lf.init_state(net, optimizer, lf.Key(1), x), (x, target)
        )
    assert [warning.category for warning in told] == [UserWarning]
    assert "softmax_cross_entropy() on logits" in str(told[0].message)


def test_probabilities_that_sum_to_one_do_not_warn():
    x, target = normal(5, 3), torch.tensor([0, 1, 1, 0, 1])
    net, optimizer = lf.serial(lf.dense(2), lf.softmax()), lf.optim.sgd(0.1)
    step = lf.make_step(net, lf.losses.cross_entropy(), optimizer)
    state, _ = step(lf.init_state(net, optimizer, lf.Key(0), x), (x, target))
    assert int(state.step) == 1


@pytest.mark.parametrize("call", [
    lambda x: lf.add().forward((), [x, x]),
    lambda x: lf.bilinear(2).init(lf.Key(0), [x, x]),
    lambda x: lf.select(0).forward((), [x, x]),
    lambda x: lf.masked(lf.relu()).forward(((),), [x, x]),
    lambda x: lf.losses.triplet_margin().forward([x, x, x], None),
])  # fmt: skip
def test_a_list_for_a_tuple_has_its_mend(call):
    with pytest.raises(lf.LayerError) as refused:
        call(normal(5, 3))
    assert str(refused.value).endswith("write a tuple in place of the list")
    assert "tensor([" not in str(refused.value)
