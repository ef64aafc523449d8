"""`decode`: steps of any split give what `predict` gives of the whole, from an explicit state."""

import re

import pytest
import torch
from helpers import CASES, normal, same_bits, same_number
from helpers.refusals import refusals
from helpers.writers import CAUSAL, LENGTH, TOKENS, WIDTH, gpt, llama, on_tokens

import lincoln_fn as lf
from lincoln_fn.decoding.rows import row_of
from lincoln_fn.decoding.trial import Visited, _noise, _state
from lincoln_fn.walk.parts import ERRORS

SPLITS = [12], [1] * 12, [5, 1, 3, 1, 2]


def causal_conv(n, kernel_size, dilation=1, value=0.0):
    before = ((kernel_size - 1) * dilation, 0)
    return lf.serial(lf.constant_pad1d(before, value), lf.conv1d(n, kernel_size, dilation=dilation))


NETS = {
    "gpt": gpt(CAUSAL, lf.positional_embedding(LENGTH)),
    "gpt, faster": lf.fast(gpt(CAUSAL, lf.positional_embedding(LENGTH))),
    "gpt at inference": lf.inference(gpt(CAUSAL, lf.sinusoidal_positions())),
    "llama": llama(),
    "qwen, head_dim of 6": llama(head_dim=6, bias=True, qk_norm=lf.rms_norm()),
    "llama, scaled positions": llama(
        positions=lf.rotary_embedding(scaling=lf.rope_scaling.llama3(8.0, 16))
    ),
    "llama, window of 3": llama(sliding_window=3, softcap=2.0),
    "llama, window beyond the text": llama(sliding_window=20),
    "one head of attention": on_tokens(
        lf.branch(
            *(lf.dense(5), lf.dense(5), lf.dense(3)),
            merge=lf.scaled_dot_product_attention(is_causal=True, scale=0.3),
        )
    ),
    "encoder blocks": on_tokens(
        lf.repeat(2, lf.transformer_encoder_block(4, 32, is_causal=True)), lf.permute(0, 2, 1)
    ),
    "lstm, gru, rnn": on_tokens(
        lf.lstm(8, num_layers=2), lf.gru(7, bias=False), lf.rnn(5, nonlinearity="relu")
    ),
    "lstm, length first": on_tokens(
        lf.permute(1, 0, 2), lf.lstm(8, batch_first=False), lf.permute(1, 0, 2)
    ),
    "linear recurrences": on_tokens(
        lf.branch(*map(lf.dense, (6, 6, 4)), merge=lf.linear_attention(2, chunk_size=3)),
        lf.branch(lf.identity(), lf.dense(4), lf.dense(4), merge=lf.identity()),
        lf.gated_linear_recurrence(chunk_size=4),
        lf.branch(lf.sigmoid(), lf.identity(), merge=lf.linear_scan()),
    ),
    "mamba": on_tokens(lf.dense(WIDTH), lf.residual(lf.serial(lf.rms_norm(), lf.mamba(WIDTH, 3)))),
    "scan": on_tokens(
        lf.scan(lf.gru_cell(8)), lf.in_dtype(lf.scan(lf.lstm_cell(6)), torch.float64)
    ),
    "one padding for two convolutions": on_tokens(
        lf.permute(0, 2, 1), lf.zero_pad1d((5, 0)), lf.conv1d(6, 3), lf.relu(), lf.conv1d(5, 4)
    ),
    "causal convolutions": on_tokens(
        lf.permute(0, 2, 1), causal_conv(6, 3, 2, value=0.5), lf.relu(), causal_conv(5, 4)
    ),
    "one layer twice": on_tokens(
        lf.branch(lf.identity(), lf.dense(WIDTH), merge=lf.select(0, 1)),
        lf.shared(CAUSAL),
        lf.add(),
    ),
}


def decoded(net, params, x, split, length=LENGTH, **options):
    decoder = lf.decode(net)
    state = decoder.init(params, len(x), length, **options)
    ys = []
    for part in x.split(split, 1):
        y, state = decoder.step(params, state, part)
        ys.append(y)
    assert state.position == x.shape[1]
    return torch.cat(ys, state.axis)


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("name", NETS)
def test_steps_give_what_predict_gives_of_the_whole(name, split):
    net = NETS[name]
    params = net.init(lf.Key(1), TOKENS)
    assert same_number(decoded(net, params, TOKENS, split), net.predict(params, TOKENS))


def test_a_text_may_be_shorter_than_max_length():
    net = NETS["llama, window of 3"]
    params, few = net.init(lf.Key(1), TOKENS), TOKENS[:1, :7]
    assert same_number(decoded(net, params, few, [4, 3], length=9), net.predict(params, few))


def test_a_window_keeps_as_many_keys_as_it_has():
    net = NETS["llama, window of 3"]
    state = lf.decode(net).init(net.init(lf.Key(1), TOKENS), 3, LENGTH)
    kept = {kind: value for kind, value in state.layers.items() if value != ()}
    assert ({tuple(value.key.shape) for value in kept.values()}, len(kept)) == ({(3, 2, 3, 4)}, 2)


def test_each_use_of_a_layer_has_a_state_of_its_own():
    net = NETS["one layer twice"]
    state = lf.decode(net).init(net.init(lf.Key(1), TOKENS), 3, LENGTH)
    assert list(state.layers) == ["2.0.3", "2.0.3 (2)"]


def test_a_step_is_pure_and_goes_on_from_any_state():
    net = gpt(CAUSAL, lf.positional_embedding(LENGTH))
    params = net.init(lf.Key(1), TOKENS)
    decoder = lf.decode(net)
    start = decoder.init(params, 3, LENGTH)
    _, read = decoder.step(params, start, TOKENS[:, :5])
    before = lf.tree.map(torch.clone, read)
    one, _ = decoder.step(params, read, TOKENS[:, 5:6])
    other, _ = decoder.step(params, read, TOKENS[:, 6:7])
    again, after = decoder.step(params, read, TOKENS[:, 5:6])
    assert same_bits((read, again), (before, one))
    assert not torch.equal(one, other)
    assert not start.layers["2.0.0.0.1.3"].key.any()
    assert lf.tree.same_structure(after, read)


DECODER = lf.transformer_decoder_block(4, 32)
# What has context beside the text, and how many layers have a state: attention to context has none.
WITH_CONTEXT = {
    "a memory": (lf.serial(lf.with_context(DECODER, DECODER), lf.dense(5)), 2),
    "an encoder, which may look at all of it": (lf.serial(lf.parallel(lf.identity(),
        lf.transformer_encoder_block(4, 32)), lf.with_context(DECODER)), 1),
}  # fmt: skip


@pytest.mark.parametrize(("net", "states"), WITH_CONTEXT.values(), ids=WITH_CONTEXT)
def test_a_text_of_vectors_and_context_beside_it(net, states):
    target, memory = normal(2, LENGTH, 8), normal(2, 7, 8, seed=1)
    params = net.init(lf.Key(0), (target, memory))
    decoder = lf.decode(net)
    state = decoder.init(params, 2, LENGTH, (target, memory))
    ys = []
    for part in target.split([5, 1, 6], 1):
        y, state = decoder.step(params, state, (part, memory))
        ys.append(y)
    assert same_number(torch.cat(ys, 1), net.predict(params, (target, memory)))
    assert len(state.layers) == states


def running_sum():
    def forward(params, x):
        return x.cumsum(1), ()

    def backward(params, cache, g):
        return g.flip(1).cumsum(1).flip(1), ()

    def init(params, x, *, axis, max_length):
        return torch.zeros_like(x)

    def step(params, state, x, *, position):
        y = state + x.cumsum(1)
        return y, y[:, -1:]

    return lf.Layer("running_sum()", forward, backward), forward, (init, step)


def test_a_layer_of_ones_own_decodes_by_what_it_declares():
    layer, forward, row = running_sum()
    net = on_tokens(layer, lf.dense(3))
    params = net.init(lf.Key(0), TOKENS)
    with pytest.raises(lf.LayerError, match=r"1 running_sum\(\) mixes positions.*lf\.declare"):
        lf.decode(net).init(params, 3, LENGTH)
    lf.declare(forward, decode=row)
    assert same_number(decoded(net, params, TOKENS, [5, 1, 6]), net.predict(params, TOKENS))


def test_a_layer_of_ones_own_that_works_by_position_declares_nothing():
    layer = lf.Layer("twice()", lambda params, x: (2 * x, ()), lambda params, cache, g: (2 * g, ()))
    net = on_tokens(layer)
    params = net.init(lf.Key(0), TOKENS)
    assert same_bits(decoded(net, params, TOKENS, [5, 7]), net.predict(params, TOKENS))


def by_place(params, x):
    return x + torch.arange(x.shape[1], dtype=x.dtype, device=x.device)[:, None], ()


def reading_back(distance):
    """Make a layer of one's own that adds what stood some positions before."""

    def forward(params, x):
        before = x.new_zeros(x.shape[0], distance, *x.shape[2:])
        return x + 0.1 * torch.cat([before, x], 1)[:, : x.shape[1]], ()

    return lf.Layer(f"reading_back({distance})", forward, print)


def one_pair(params, x):
    """Add the second position to the last of the text alone."""
    y = x.clone()
    if x.shape[1] == LENGTH:
        y[:, -1] += x[:, 1]
    return y, ()


def late(params, x):
    """Compute something else from the ninth position on."""
    y = x.clone()
    y[:, 8:] *= 2
    return y, ()


def joining(part):
    def there(visit, params, x):
        y, record = visit(0, params[0], x.flatten(0, 1))
        return y.view(*x.shape[:2], -1), (record,)

    return lf.walk.composition("joining", (part,), there, print)


def over_positions(part):
    def there(visit, params, x):
        ys = [visit(0, params[0], x_t)[0] for x_t in x.unbind(1)]
        return torch.stack(ys, 1), ()

    def init(parts, key, x):
        return (parts[0].init(key, x[:, 0]),)

    return lf.walk.composition("over_positions", (part,), there, print, init=init)


def begun(layer):
    """Begin to decode by a layer behind an embedding."""
    net = on_tokens(layer)
    return lf.decode(net).init(net.init(lf.Key(0), TOKENS[:, :5]), 3, LENGTH)


def stepped(*parts):
    """Take a step for each part of a text, with room for six positions."""
    decoder = lf.decode(on_tokens(lf.gru(4)))
    params = decoder.net.init(lf.Key(0), TOKENS)
    state = decoder.init(params, 3, 6)
    for part in parts:
        _, state = decoder.step(params, state, part)
    return state.position


def test_a_state_has_room_for_its_max_length():
    assert stepped(TOKENS[:, :5], TOKENS[:, :1]) == 6


test_what_cannot_decode_is_refused_with_its_path = refusals("""
begun(over_positions(dense(3))) -> ^decode: ... runs over the positions
begun(joining(dense(3))) -> ^decode: ... 1.0 dense(3) ... joined with something else
begun(lstm(4, bidirectional=True)) -> ^decode: ... 1 lstm(4, b ... from the end of the text
begun(scan(gru_cell(4), reverse=True)) -> ^decode: ... 1 scan( ... from the end of the text
begun(multi_head_attention(4)) -> ^decode: ... 1.3 attention_heads(4, is ... later positions
begun(transformer_encoder_block(4, 8)) -> ^decode: ... 1.1.0.0.1.3 att ... later positions
begun(gru(4, batch_first=False)) -> ^decode: ... 1 gru(4, batch ... runs along axis -3
begun(serial(permute(0, 2, 1), zero_pad1d(1), conv1d(4, 3))) -> ^decode: ... 1.1 ... after the text
begun(serial(permute(0, 2, 1), replication_pad1d((2, 0)), conv1d(4, 3))) -> ^decode: ... 1.1 ...
    with numbers of the text
begun(serial(permute(0, 2, 1), conv1d(4, 3, padding='same'))) -> ^decode: ... 1.1 conv ...
    zero_pad1d
begun(serial(permute(0, 2, 1), zero_pad1d((2, 0)), conv1d(4, 3, dilation=2))) -> ^decode: ... few
    positions ... expected
begun(serial(permute(0, 2, 1), zero_pad1d((4, 0)), conv1d(4, 3))) -> ^decode: ... expected one
    output for the first position, got 3; pad 2 fewer
begun(serial(permute(0, 2, 1), conv1d(4, 1, stride=2))) -> ^decode: ... 1.1 conv1d ... skips
    positions
begun(positional_embedding(5)) -> ^decode: ... 1 positional_emb ... has 5 positions
begun(rotary_embedding(scaling=rope_scaling.dynamic(2.0, 8))) -> ^decode: ... 1 rot ... smaller
    max_length
begun(serial(masked_mean(), dense(3))) -> ^decode: ... 1.0 masked_mean() ... mixes positions
begun(serial(flatten(), dense(3))) -> ^decode: ... 1.0 flatten() ... mixes positions
begun(softmax(dim=1)) -> ^decode: ... 1 softmax(dim=1) ... mixes positions
begun(serial(permute(0, 2, 1), dense(4))) -> ^decode: ... few positions: serial[1] serial[1]
    dense(4)
begun(Layer('by_place()', by_place, print)) -> ^decode: ... 1 by_place() ... mixes positions
begun(reading_back(1)) -> ^decode: ... mixes positions
begun(reading_back(2)) -> ^decode: ... mixes positions
begun(reading_back(3)) -> ^decode: ... mixes positions
begun(reading_back(7)) -> ^decode: ... mixes positions
begun(reading_back(LENGTH - 1)) -> ^decode: ... mixes positions
begun(Layer('one_pair()', one_pair, print)) -> ^decode: ... 1 one_pair() ... mixes positions
begun(Layer('late()', late, print)) -> ^decode: ... 1 late() ... mixes positions
begun(local_response_norm(5)) -> ^decode: ... 1 local_response_norm(5) ... mixes positions
begun(interop.from_function(lambda x: reading_back(2).forward((), x)[0])) -> ^decode: ... 1
    from_function( ... mixes positions
begun(serial(*(permute(0, 2, 1), zero_pad1d((4, 0)), conv1d(4, 3), permute(0, 2, 1)), *(gru(4),
    permute(0, 2, 1), conv1d(4, 3)))) -> ^decode: ... 1.4 gru(4) ... gets 2 positions before the
    text; pad 2 fewer
begun(serial(fixed_point(serial(add(), multi_head_attention(4, is_causal=True))))) -> ^decode: ...
    1.0 fixed_point( ... mixes positions
# all that cannot decode in one error, and steps of a network that can
begun(serial(lstm(4, bidirectional=True), residual(multi_head_attention(4)))) -> 1.0 lstm( ... ;
    1.1.0.3 attention_heads(4,
stepped(TOKENS[:, :5], TOKENS[:, :2]) -> at most 6 positions, the state's max_length, got 5 a
stepped(torch.tensor([1, 2])) -> decode: expected x to be a tensor with positions in
decode(on_tokens()).init(on_tokens().init(Key(0), TOKENS), 0, 5) -> decode: expected batch_size
decode(dense) -> decode: expected net to be a Layer
""")


# Every layer of the library without a row: `tests/library/test_tables.py` lists those with one.
# They mix positions in some layout, where they are refused, and work by position in another.
TRIED = (
    "alibi relative_position_bias adaptive_avg_pool adaptive_max_pool class_token concatenate "
    "conv_transpose cosine_similarities dilate flatten fractional_max_pool graph_conv "
    "index_select last_state layer_norm local_response_norm log_softmax logsumexp masked_mean mean "
    "norm normalize pixel_shuffle pixel_unshuffle reshape softmax softmin sum take variance"
)


def is_refused(case):
    """Try whether a layer works by position along axis 1 of a case's input."""
    visited = []
    for n in (1, 2):
        x = lf.tree.map(lambda t, n=n: t[:, :n] if t.ndim > 1 < t.shape[1] else t, case.x)
        try:
            y = case.layer.predict(case.params(), x)
        except ERRORS:
            return False  # its params fix the size of the axis
        visited.append(Visited(case.layer, "", case.params(), x, y))
    try:
        _state(*visited, max_length=8, noise=_noise)
    except lf.LayerError:
        return True
    return False


@pytest.mark.full
def test_a_layer_without_a_row_works_by_position_or_is_found_by_trying():
    tried = [case for case in CASES if case.layer.composition is None and not row_of(case.layer)]
    names = [re.match(r"[a-z_0-9]+?(?=(\dd)?\()", case.layer.name)[0] for case in tried]
    refused = {name for name, case in zip(names, tried, strict=True) if is_refused(case)}
    assert refused == set(TRIED.split())
