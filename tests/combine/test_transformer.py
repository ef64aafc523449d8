"""Transformer blocks, their context, and what stacks of them make of it."""

import pytest
import torch
from helpers import first_run, run, same_bits, same_number

import lincoln_fn as lf
from lincoln_fn.core.signatures import unchanged
from lincoln_fn.layers import dense, dropout

ENCODER, DECODER = lf.transformer_encoder_block, lf.transformer_decoder_block


def normal(*shape, seed=0):
    return lf.keys.normal(lf.Key(seed), shape, dtype=torch.float64)


def test_dropout_stands_where_torch_has_it():
    x, p = normal(2, 5, 6), 0.3
    layer = ENCODER(2, 7, dropout=p)
    params = layer.init(lf.Key(0), x)
    assert len({int(bits) for bits in states(params)}) == 4
    _, (((_, attention, after), _), norm), (((first, _, hidden, second, last),), _), norm_2 = (
        params[0],
        params[1],
        params[2][0],
        params[2][1],
    )

    def dropped(key, x):
        return dropout.forward(key, x, p=p)[0]

    def normed(params, x):
        return lf.layer_norm().predict(params, x)

    h = dropped(after, lf.multi_head_attention(2, dropout=p).forward(attention, x)[0])
    h = normed(norm, x + h)
    f = dropped(hidden, torch.relu(dense.forward(first, h)[0]))
    f = dropped(last, dense.forward(second, f)[0])
    assert same_number(layer.forward(params, x)[0], normed(norm_2, h + f))


def states(params):
    trained = {id(leaf) for leaf in lf.tree.leaves(params)}
    return [leaf for leaf in lf.tree.leaves(params, states=True) if id(leaf) not in trained]


@pytest.mark.parametrize("norm_first", [False, True])
def test_every_key_of_a_decoder_moves_on(norm_first):
    x = normal(2, 5, 6), normal(2, 4, 6, seed=1)
    net = lf.with_context(*[DECODER(2, 7, norm_first=norm_first)] * 2)
    params, y, cache = first_run(net, x)
    advanced = net.advance(params, cache)
    before, after = states(params), states(advanced)
    assert len(before) == len(after) == 12
    assert not {int(bits) for bits in before} & {int(bits) for bits in after}
    assert lf.tree.paths(params) == lf.tree.paths(DECODER_WITHOUT[norm_first].init(lf.Key(0), x))
    assert same_number(net.predict(params, x), net.predict(advanced, x))
    assert not same_bits(net.forward(advanced, x)[0], y)


DECODER_WITHOUT = [
    lf.with_context(*[DECODER(2, 7, 0.0, norm_first=norm_first)] * 2)
    for norm_first in (False, True)
]


def test_blocks_without_dropout_carry_no_state():
    x = normal(2, 5, 6), normal(2, 4, 6, seed=1)
    assert ENCODER(2, 7, 0.0).advance is DECODER(2, 7, 0.0).advance is unchanged
    assert states(DECODER(2, 7, 0.0).init(lf.Key(0), x)) == []


def test_select_gives_zeros_to_what_it_leaves_out_and_sums_what_it_repeats():
    x = (normal(2), normal(3), torch.tensor([1]), (normal(4), None))
    _, dx, dparams = run(lf.select(0, 0), (), x, (torch.ones(2), torch.full((2,), 2.0)))
    assert same_number(
        dx, (torch.full((2,), 3.0), torch.zeros(3).double(), None, (torch.zeros(4).double(), None))
    )
    assert dparams == ()
