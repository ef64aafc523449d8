"""Parameters by torch's names: compositions, what is refused, and numpy."""

import pkgutil
from importlib import import_module

import attrs
import numpy as np
import pytest
import torch
from helpers import CASES, Case, assert_refused, assert_says, normal, same_bits

import lincoln_fn as lf
from lincoln_fn.interop import from_numpy, from_state_dict, to_numpy, to_state_dict
from lincoln_fn.interop.names import KINDS


def initialised(layer, x):
    return layer.init(lf.Key(3), x)


TIED = lf.tied(lf.embedding(7, 6), lf.dense(6)), lf.tied(lf.frozen(lf.embedding(7, 6)), lf.dense(6))
# What makes the params of another layer, and those of a function, have sizes of their own.
NEED_LIKE = "weight_norm(", "spectral_norm(", "vector_quantize(", "graph("
# With an init of the tests, where the layer has no params, or those of its dropout.
OTHER_INIT = "local_response_norm(", "attention_heads("
NETS = [
    *(case for case in CASES if not case.layer.name.startswith((*NEED_LIKE, *OTHER_INIT))),
    *(Case(net, torch.tensor([[1, 2]])) for net in TIED),
]


@pytest.mark.parametrize("case", NETS, ids=str)
def test_there_and_back(case):
    net, params = case.layer, initialised(case.layer, case.x)
    named = to_state_dict(net, params)
    for back in (from_state_dict(net, named), from_state_dict(net, named, params)):
        assert lf.tree.same_structure(back, params, states=True)
        again = to_state_dict(net, back)
        assert list(again) == list(named)
        assert same_bits(again, named)
        leaves, of_init = lf.tree.leaves(back, states=True), lf.tree.leaves(params, states=True)
        assert not any(leaf.is_meta for leaf in leaves)
        orders = [[leaf.stride() for leaf in each] for each in (leaves, of_init)]
        assert orders[0] == orders[1], "in the layer's own order in memory"
    assert same_bits(back, params), "like gives the keys"


def test_names_are_paths_without_what_is_wrapped_around():
    x = normal(2, 5, 6)
    net = lf.serial(lf.frozen(lf.serial(lf.dense(4), lf.relu())), lf.dense(2))
    named = to_state_dict(net, initialised(net, x))
    assert list(named) == ["0.0.weight", "0.0.bias", "1.weight", "1.bias"]
    net = lf.shared(lf.dense(4))
    assert list(to_state_dict(net, initialised(net, (x,)))) == ["weight", "bias"]


def test_every_class_of_parameters_is_in_the_table():
    own = {
        module.Params
        for _, name, _ in pkgutil.walk_packages(lf.layers.__path__, "lincoln_fn.layers.")
        if isinstance(getattr(module := import_module(name), "Params", None), type)
        and attrs.has(module.Params)
    }
    # The one combinator whose params have names of their own in torch's world.
    assert set(KINDS) == {*own, lf.combine.gated_feed_forward.Params}


def test_keys_without_like_come_from_the_key():
    net = lf.serial(lf.dropout(), lf.dropout())
    first, second = from_state_dict(net, {})
    assert first.key.bits != second.key.bits
    assert from_state_dict(net, {}, key=lf.Key(5))[0].key.bits != first.key.bits


def test_what_is_unknown_keeps_its_own_names_and_needs_like():
    @lf.record
    class Own:
        scale: torch.Tensor
        seen: lf.Key

    own = lf.Layer("own()", print, print, init=lambda key, x: Own(x[0], key))
    net = lf.serial(own, lf.Layer("bare()", print, print, init=lambda key, x: x))
    params = (Own(torch.tensor([1.0, 2.0]), lf.Key(1)), torch.tensor([3.0]))
    named = to_state_dict(net, params)
    assert list(named) == ["0.scale", "0.seen.bits", "1"]
    assert same_bits(from_state_dict(net, named, params)[0].scale, params[0].scale)
    problem = "expected like, because the parameters of own() are not known"
    assert_refused(f"serial(own(), bare()): {problem}", from_state_dict, net, named)


def test_all_that_is_wrong_is_in_one_error():
    net = lf.serial(lf.dense(4), lf.relu(), lf.batch_norm())
    named = to_state_dict(net, initialised(net, normal(5, 3)))
    del named["0.bias"], named["2.num_batches_tracked"]
    named.update({"0.weight": torch.zeros(3, 4), "7.weight": torch.zeros(1), "2.bias": 5})
    expected = (
        "serial(dense(4), relu(), batch_norm()): expected tensors by torch's names; "
        "0.bias: missing; 2.num_batches_tracked: missing; 7.weight: unexpected; "
        "0.weight: expected shape (4, 3), got float32[3, 4]; 2.bias: expected shape (4,), got 5"
    )
    assert_refused(expected, from_state_dict, net, named, initialised(net, normal(5, 3)))
    assert_says("0.bias: missing", from_state_dict, net, named)


def test_stacked_weights_have_one_shape():
    layer = lf.multi_head_attention(2)
    named = torch.nn.MultiheadAttention(6, 2, batch_first=True).state_dict()
    named["in_proj_weight"] = named["in_proj_weight"][:-1]
    problem = "in_proj_weight: expected shape (18, 6), got float32[17, 6]"
    message = f"multi_head_attention(2): expected tensors by torch's names; {problem}"
    assert_refused(message, from_state_dict, layer, named)


def test_nothing_at_all_is_refused_by_name():
    for layer in (lf.dense(2), lf.conv2d(4, 3, groups=2), lf.conv_transpose1d(4, 3, groups=2),
                  lf.group_norm(3), lf.layer_norm(), lf.embedding(3, 2), lf.prelu(3),
                  lf.bilinear(3), lf.lstm(2), lf.multi_head_attention(3)):  # fmt: skip
        assert_says("weight ... : missing", from_state_dict, layer, {})


def test_sizes_that_cannot_be_found_are_said():
    block = lf.transformer_encoder_block(3)
    message = (
        "serial(transformer_encoder_block(3)): cannot find the sizes of "
        "transformer_encoder_block(3) from ['bias']: "
        "expected a query with features in 3 heads, got 1"
    )
    assert_refused(message, from_state_dict, lf.serial(block), {"0.bias": torch.zeros(2)})


def test_numpy_there_and_back():
    net = lf.serial(lf.dense(4), lf.batch_norm(), lf.dropout())
    params = initialised(net, normal(5, 3))
    arrays = to_numpy(params)
    leaves = lf.tree.leaves(arrays, states=True)
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves)
    back = from_numpy(arrays)
    assert same_bits(back, params)
    arrays[0].bias[:] = 7
    assert not (params[0].bias == 7).any()
    assert not (back[0].bias == 7).any()
    assert from_numpy(np.arange(6)[::-2]).tolist() == [5, 3, 1]
    message = "to_numpy: numpy has no bfloat16; convert first, for example by t.float()"
    assert_says(f"TypeError: ^{message}$", to_numpy, (torch.zeros(2, dtype=torch.bfloat16),))
