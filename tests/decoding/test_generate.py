"""`generate` and its samplers: what each keeps, the stream, and one graph for each token."""

import pickle

import pytest
import torch
from helpers import compiles_in_full, same_bits, same_number
from helpers.refusals import assert_says, refusals
from helpers.writers import CAUSAL, TOKENS, N, gpt, llama, on_tokens

import lincoln_fn as lf
from lincoln_fn import samplers
from lincoln_fn.decoding.generate import NextToken
from lincoln_fn.recording.surroundings import facts_of

KEY = lf.Key(5)
NET = gpt(CAUSAL, lf.positional_embedding(32))
PARAMS = NET.init(lf.Key(1), TOKENS)
PROMPT = TOKENS[:, :4]
LOGITS = torch.tensor([[1.0, -0.5, 3.0, 2.0, 2.5, -1.0], [0.0, 0.0, 0.0, 0.1, -9.0, 0.0]])


def written(decoder, params=PARAMS, prompt=PROMPT, count=9, key=KEY, **options):
    stream = lf.generate(decoder, params, prompt, key=key, max_new_tokens=count, **options)
    return torch.stack([token for _, token in stream], 1)


def written_by_predict(net, params, prompt, count, *context):
    tokens = prompt
    for _ in range(count):
        best = net.predict(params, (tokens, *context) if context else tokens)[:, -1].argmax(-1)
        tokens = torch.cat([tokens, best[:, None]], 1)
    return tokens[:, prompt.shape[1] :]


LENGTHS = (2, 7, 4)
NETS = {
    "gpt": NET,
    "window": llama(sliding_window=3),
    "gru": on_tokens(lf.gru(9), lf.dense(N)),
}


@pytest.mark.parametrize("name", [*NETS, "permuted"])
def test_greedy_tokens_are_those_of_predict_on_the_whole_text(name):
    plain = NETS.get(name, NET)
    net = lf.serial(plain, lf.permute(0, 2, 1)) if name == "permuted" else plain
    params = net.init(lf.Key(2), TOKENS)
    own = params[0] if name == "permuted" else params
    greedy = written(lf.decode(net), params, sampler=samplers.greedy())
    assert same_bits(greedy, written_by_predict(plain, own, PROMPT, 9))


def test_the_same_key_writes_the_same_and_another_writes_something_else():
    decoder = lf.decode(NET)
    first = written(decoder)
    assert same_bits(written(decoder), first)
    assert not same_bits(written(decoder, key=lf.Key(6)), first)
    assert not same_bits(first[0], first[1])


def test_a_text_goes_on_from_a_state():
    decoder = lf.decode(NET)
    whole = written(decoder, count=9)
    *_, (state, token) = lf.generate(
        decoder, PARAMS, PROMPT, key=KEY, max_new_tokens=4, max_length=20
    )
    rest = written(decoder, prompt=token[:, None], count=5, state=state)
    assert state.position == 7
    assert same_bits(rest, whole[:, 4:])


def test_the_stream_ends_when_all_texts_have_written_a_stop():
    decoder = lf.decode(NET)
    whole = written(decoder, count=28)
    places = [(row == 7).nonzero()[0].item() for row in whole if 7 in row]
    assert len(places) == 3, "each text writes it"
    assert len(set(places)) > 1
    stopped = written(decoder, count=28, stop=7)
    assert stopped.shape[1] == max(places) + 1
    for text, full, place in zip(stopped, whole, places, strict=True):
        assert same_bits(text[: place + 1], full[: place + 1])
        assert (text[place:] == 7).all()
    assert same_bits(written(decoder, count=28, stop=(7, 99)), stopped)


def test_a_token_of_a_network_with_many_layers_is_recorded():
    net = on_tokens(*[lf.residual(lf.serial(lf.rms_norm(), lf.dense(8))) for _ in range(300)])
    choose = NextToken("generate", lf.decode(net), samplers.greedy())
    assert facts_of(choose) == []


def test_the_next_text_is_written_by_the_program_of_the_first():
    decoder, greedy = lf.decode(NET), samplers.greedy()
    first = written(decoder, sampler=greedy)
    program = decoder._wrapped(NextToken("generate", decoder, samplers.greedy()))
    (memo,) = program.memos.kinds.values()
    runs = list(memo._runs)
    assert runs
    assert same_bits(written(decoder, sampler=greedy), first)
    assert (memo._runs, [*program.memos.kinds.values()]) == (runs, [memo])
    other = pickle.loads(pickle.dumps(decoder))
    assert same_bits(written(other, sampler=greedy), first)


WITH_CONTEXT = lf.serial(
    lf.parallel(lf.embedding(N, 8), lf.identity()),
    lf.with_context(lf.transformer_decoder_block(4, 16)),
    lf.dense(N),
)
MEMORY = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))


def test_context_stays_beside_the_text():
    params = WITH_CONTEXT.init(lf.Key(0), (PROMPT, MEMORY))
    decoder = lf.decode(WITH_CONTEXT)
    given = written(decoder, params, (PROMPT, MEMORY), 4, sampler=samplers.greedy())
    assert same_bits(given, written_by_predict(WITH_CONTEXT, params, PROMPT, 4, MEMORY))


def begun(prompt=PROMPT, **options):
    """Write the first token."""
    options = {"max_new_tokens": 1, **options}
    return next(lf.generate(lf.decode(NET), PARAMS, prompt, key=KEY, **options))


def searched(prompt=PROMPT, net=NET, params=PARAMS, **options):
    options = {"num_beams": 3, "max_new_tokens": 4, **options}
    return lf.beam_search(lf.decode(net), params, prompt, **options)


MASK = torch.ones_like(PROMPT, dtype=torch.bool)
test_what_generate_cannot_read_is_refused = refusals("""
begun(max_new_tokens=9, max_length=11) -> ^generate: expected a max_length of at least 12
begun(PROMPT[:, :0]) -> at least one token, got shape (3, 0); begin with
begun((PROMPT[:, :0], PROMPT)) -> at least one token, got shape (3, 0); begin with
begun(stop='a') -> ^generate: expected stop to be ids of tokens, got 'a'; write the ids that the
    text's tokens have
begun(stop=['a', 3]) -> ^generate: expected stop to be ids of tokens, got ['a', 3]; write the ids
begun(stop=torch.ones(2)) -> ^generate: expected stop to be ids of tokens, got [1.0, 1.0]; write
begun((PROMPT, MASK)) -> ^generate: expected a prompt without padding, got a mask of its tokens;
    write attention_mask=mask
begun(mask=MASK) -> TypeError: keyword argument 'mask'; write attention_mask
begun(attention_mask=MASK[:, :2]) -> an attention_mask of shape (3, 4), got (3, 2)
begun(attention_mask=torch.tensor([[1, 0, 1, 1]] * 3)) -> with padding at one end, got one with hol
begun(attention_mask=0 * MASK) -> at least one token in each prompt, got one of padding alone
begun(stop_strings="a") -> a tokenizer for stop_strings, which makes text of ids, got None
begun(stop_strings=("a", "")) -> stop_strings that are not empty, got ('a', '')
searched(attention_mask=MASK) -> TypeError: keyword argument 'attention_mask'; write prompts of one
searched(PROMPT[:, :0]) -> ^beam_search: expected a prompt of at least one token
searched(stop='a') -> ^beam_search: expected stop to be ids of tokens
samplers.repetition_penalty(0.0) -> repetition_penalty: expected penalty
samplers.top_k(0) -> top_k: expected k
samplers.top_p(1.5) -> top_p: expected p
samplers.min_p(-0.1) -> min_p: expected p
samplers.temperature(0.0) -> temperature: expected t
samplers.chain() -> chain: expected at least one of samplers
""")


@pytest.mark.full(but=("gru-left", "gpt-right"))
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_a_text_of_a_prompt_among_longer_ones_is_that_of_the_prompt_alone(net, side):
    params = net.init(lf.Key(2), TOKENS)
    sampler = samplers.chain(samplers.repetition_penalty(1.3), samplers.greedy())
    prompts, mask = torch.full((3, 8), 5), torch.zeros(3, 8, dtype=torch.int64)
    for i, n in enumerate(LENGTHS):
        place = slice(8 - n, 8) if side == "left" else slice(n)
        prompts[i, place], mask[i, place] = TOKENS[i, :n], 1
    decoder = lf.decode(net)
    given = written(decoder, params, prompts, sampler=sampler, attention_mask=mask, stop=7)
    for i, n in enumerate(LENGTHS):
        alone = written(decoder, params, TOKENS[i : i + 1, :n], sampler=sampler, stop=7)[0]
        assert same_bits(given[i, : n - 2], TOKENS[i, 2:n])
        assert same_bits(given[i, n - 2 :][: len(alone)], alone)
        assert (given[i, n - 2 + len(alone) :] == alone[-1]).all()


def test_a_batch_may_be_second():
    net = on_tokens(lf.gru(9, batch_first=False), lf.dense(N))
    first, params = NETS["gru"], NETS["gru"].init(lf.Key(2), TOKENS)
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    given = written(lf.decode(net, dim=0), params, PROMPT.T, attention_mask=mask.T)
    assert same_bits(given, written(lf.decode(first), params, attention_mask=mask))
    options = {"num_beams": 3, "max_new_tokens": 4}
    texts, scores = lf.beam_search(lf.decode(net, dim=0), params, PROMPT.T, **options)
    expected, best = searched(net=first, params=params)
    assert same_bits(texts, expected)
    assert same_number(scores, best)


def test_a_sampler_reads_the_text_so_far():
    texts = []

    def least_seen(logits, key, text):
        texts.append(text)
        seen = (text.unsqueeze(-1) == torch.arange(N)).sum(1)
        return (-seen).argmax(-1)

    decoder = lf.Decoder(NET, wrap=lambda function: function)
    given = written(decoder, count=9, sampler=least_seen)
    whole = torch.cat([PROMPT, given], 1)
    for i, text in enumerate(texts):
        assert same_bits(text[:, -4 - i :], whole[:, : 4 + i])
        assert (text[:, : -4 - i] == -1).all()
    assert all(row.unique().numel() == N for row in whole[:, :13])


def test_a_repeated_token_is_less_probable():
    sampler = samplers.repetition_penalty(2.0)
    text = torch.tensor([[-1, 2, 5, 2], [-1, -1, 3, 99]])
    expected = LOGITS.clone()
    expected[0, 2], expected[0, 5], expected[1, 3] = 1.5, -2.0, 0.05
    assert same_bits(sampler.filter(LOGITS, text), expected)
    chained = samplers.chain(samplers.temperature(0.5), sampler, samplers.greedy())
    assert same_bits(chained.filter(LOGITS, text), sampler.filter(LOGITS / 0.5, text))
    greedy = written(lf.decode(NET), sampler=samplers.greedy())
    assert not same_bits(written(lf.decode(NET), sampler=chained), greedy)


class Letters:
    def decode(self, ids):
        return "".join("abcdefghijk"[i] for i in ids)


def test_strings_end_a_text():
    decoder = lf.decode(NET)
    whole = [Letters().decode(row.tolist()) for row in written(decoder, count=28)]
    strings = (whole[0][5:8], whole[1][11:13], whole[2][9:11])
    ends = [min(text.find(s) + len(s) for s in strings if s in text) for text in whole]
    options = {"stop_strings": strings, "tokenizer": Letters()}
    given = written(decoder, count=28, **options)
    assert len({*ends}) > 1
    assert given.shape[1] == max(ends) < 28
    for row, text, end in zip(given, whole, ends, strict=True):
        assert Letters().decode(row.tolist()) == text[:end] + text[end - 1] * (len(row) - end)
    one = written(decoder, prompt=PROMPT[:1], count=28, **{**options, "stop_strings": whole[0][:3]})
    assert one.shape[1] == 3


def every_text(net, params, prompt, count, stops):
    """Every text of so many tokens, or fewer with a token that ends it, and log p of each."""
    texts = [()]
    for _ in range(count):
        longer = [t for t in texts if t and t[-1] in stops]
        texts = longer + [(*t, i) for t in texts if t not in longer for i in range(N)]
    scores = {}
    for length in {*map(len, texts)}:
        alike = [t for t in texts if len(t) == length]
        tokens = torch.tensor(alike)
        ids = torch.cat([prompt.expand(len(alike), -1), tokens], 1)
        log_p = net.predict(params, ids).log_softmax(-1)[:, prompt.shape[1] - 1 : -1]
        each = log_p.gather(-1, tokens.unsqueeze(-1)).sum((1, 2))
        scores.update(zip(alike, each.tolist(), strict=True))
    return scores


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.parametrize(("penalty", "stop"), [(0.0, ()), (1.0, (7, 2)), (2.5, (7,))])
def test_a_search_with_all_beams_finds_the_best_of_all_texts(net, penalty, stop):
    params = lf.tree.map(lambda leaf: 2 * leaf, net.init(lf.Key(2), TOKENS))
    texts, scores = searched(
        net=net, params=params, num_beams=N**2, max_new_tokens=2, length_penalty=penalty,
        early_stopping="never", stop=stop,
    )  # fmt: skip
    for i in range(3):
        every = every_text(net, params, PROMPT[i : i + 1], 2, stop)
        ranked = sorted(((s / len(t) ** penalty, t) for t, s in every.items()), reverse=True)
        count = min(len(ranked), 20)
        best = torch.tensor([score for score, _ in ranked[:count]])
        assert same_number(scores[i, :count], best)
        assert texts[i, 0].tolist() == [*ranked[0][1], *ranked[0][1][-1:] * 2][:2]


@pytest.mark.full(but=("[gpt]", "[gru]"))
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_a_score_is_the_log_probability_of_its_text(net):
    params = lf.tree.map(lambda leaf: 2 * leaf, net.init(lf.Key(2), TOKENS))
    texts, scores = searched(net=net, params=params, max_new_tokens=6)
    prompts = PROMPT.unsqueeze(1).expand(-1, 3, -1)
    log_p = net.predict(params, torch.cat([prompts, texts], -1).flatten(0, 1)).log_softmax(-1)
    each = log_p[:, 3:-1].gather(-1, texts.flatten(0, 1).unsqueeze(-1))
    assert same_number(each.sum((1, 2)).view(3, 3) / 6, scores)
    assert all(len({*map(tuple, beams.tolist())}) == 3 for beams in texts)


def test_scores_of_half_precision_are_added_in_float32():
    params = lf.tree.map(lambda leaf: leaf.bfloat16(), NET.init(lf.Key(2), TOKENS))
    _, scores = searched(params=params, num_beams=2, max_new_tokens=1)
    assert scores.dtype == torch.float32
    assert (scores != scores.bfloat16()).any()  # it has digits that bfloat16 has not


@pytest.mark.full
def test_a_search_with_one_beam_is_greedy():
    texts, _ = searched(num_beams=1, max_new_tokens=9)
    assert same_bits(texts[:, 0], written(lf.decode(NET), sampler=samplers.greedy()))


@pytest.mark.full
def test_context_goes_with_each_beam():
    params = WITH_CONTEXT.init(lf.Key(0), (PROMPT, MEMORY))
    texts, scores = searched((PROMPT, MEMORY), WITH_CONTEXT, params)
    for i in range(3):
        one, score = searched((PROMPT[i : i + 1], MEMORY[i : i + 1]), WITH_CONTEXT, params)
        assert same_bits(one[0], texts[i])
        assert same_number(score[0], scores[i])


def test_a_stop_is_of_any_integers():
    first = written(lf.decode(NET))[0, 0]
    for stop in (int(first), [first], first, (first.numpy(),), {int(first)}):
        assert written(lf.decode(NET), prompt=PROMPT[:1], stop=stop).shape[1] == 1


# Samplers.


def kept(sampler, logits=LOGITS):
    return [row.isfinite().nonzero().flatten().tolist() for row in sampler.filter(logits)]


def by_definition(p, logits):
    """List the most probable tokens, until they have a probability of p together."""
    found = []
    for row in logits.double().softmax(-1):
        total, tokens = 0.0, []
        for token in row.argsort(descending=True).tolist():
            if total >= p:
                break
            total += row[token].item()
            tokens.append(token)
        found.append(sorted(tokens))
    return found


def test_filters_keep_what_they_say():
    assert kept(samplers.top_k(2), LOGITS[:1]) == [[2, 4]]
    assert kept(samplers.top_k(9)) == [[*range(6)]] * 2
    drawn = torch.randn(50, 13, generator=torch.Generator().manual_seed(0))
    for p in (0.05, 0.5, 0.9, 0.999):
        assert kept(samplers.top_p(p), drawn) == by_definition(p, drawn)
        relative = drawn.softmax(-1) / drawn.softmax(-1).amax(-1, keepdim=True)
        assert kept(samplers.min_p(p), drawn) == [
            (row >= p).nonzero().flatten().tolist() for row in relative
        ]
    assert kept(samplers.top_p(1.0)) == kept(samplers.min_p(0.0)) == [[*range(6)]] * 2
    assert kept(samplers.top_p(0.0), LOGITS[:1]) == [[2]]
    assert same_bits(samplers.temperature(0.5).filter(LOGITS), LOGITS / 0.5)


def test_top_k_keeps_k_of_equal_ones_the_first():
    equal = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 2.0, 1.0, 1.0], [-torch.inf] * 3 + [2.0]])
    assert kept(samplers.top_k(1), equal) == [[0], [1], [3]]
    assert kept(samplers.top_k(2), equal) == [[0, 1], [1, 2], [3]]
    for seed in range(9):
        key = lf.Key(seed)
        assert same_bits(samplers.top_k(1)(equal, key), samplers.greedy()(equal, key))


def test_min_ps_bound_is_finer_than_bfloat16():
    logits = torch.tensor([[100.0, 97.5, 98.0], [100.0, 97.0, 99.5]]).bfloat16()
    assert kept(samplers.min_p(0.1), logits) == [[0, 2], [0, 2]]


def test_a_chain_applies_one_filter_after_the_other():
    both = samplers.chain(samplers.temperature(0.5), samplers.top_p(0.8))
    drawn = torch.randn(9, 13, generator=torch.Generator().manual_seed(0))
    assert kept(both, drawn) == by_definition(0.8, drawn / 0.5)
    other_order = samplers.chain(samplers.top_p(0.8), samplers.temperature(0.5))
    assert kept(other_order, drawn) == by_definition(0.8, drawn) != kept(both, drawn)
    assert repr(both) == "chain(temperature(t=0.5), top_p(0.8))"
    assert both == samplers.chain(samplers.temperature(0.5), samplers.top_p(0.8))
    assert samplers.chain(samplers.top_k(3), samplers.greedy())(LOGITS, KEY).tolist() == [2, 3]


def test_draws_have_the_softmax_s_probabilities():
    n = 40_000
    tokens = samplers.temperature(1.5)(LOGITS[0].expand(n, -1), KEY)
    shares = torch.bincount(tokens, minlength=6) / n
    p = (LOGITS[0] / 1.5).softmax(-1)
    # Five standard errors of a share.
    assert ((shares - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()


# Compiled.


@pytest.mark.full
def test_one_graph_serves_all_tokens_and_the_next_text(uncompiled):
    decoder = lf.decode(NET)
    fast = lf.compile(decoder)
    top = samplers.top_p(0.9)
    expected = written(decoder, sampler=top)
    for _ in range(2):
        assert same_bits(written(fast, sampler=top, max_length=16), expected)
    made = fast._wrapped(NextToken("generate", fast, top))
    assert (fast._wrapped.cache_info().misses, len(made.graphs.kinds)) == (1, 1)
    assert lf.compile(fast) is fast
    assert repr(fast) == repr(decoder) == f"decode({NET.name})"
    again = pickle.loads(pickle.dumps(lf.compile(lf.decode(lf.gru(3)))))
    assert again._wrapped.cache_info().currsize == 0


@pytest.mark.full
def test_a_compiled_step_is_the_step_and_raises_its_error(uncompiled):
    decoder = lf.decode(NET)
    step, state = lf.compile(decoder.step), decoder.init(PARAMS, 3, 6)
    for part in PROMPT.split([2, 1, 1], 1):
        y, after = decoder.step(PARAMS, state, part)
        given, state = step(PARAMS, state, part)
        assert same_number((given, state), (y, after))
    assert len(step.graphs.kinds) == 2
    for _ in range(2):
        _, state = step(PARAMS, state, PROMPT[:, :1])
    assert_says("at most 6 positions", step, PARAMS, state, PROMPT[:, :1])


@compiles_in_full
@pytest.mark.parametrize("name", ["window", "gru"])
def test_compiled_texts_are_the_eager_ones(name):
    net, params = NETS[name], NETS[name].init(lf.Key(1), TOKENS)
    decoder = lf.decode(net)
    sampler = samplers.chain(samplers.temperature(0.8), samplers.top_k(5))
    given = written(lf.compile(decoder), params, sampler=sampler)
    assert same_bits(given, written(decoder, params, sampler=sampler))


def test_a_layer_with_a_backward_of_ones_own_and_a_sampler_without_a_hash():
    net = lf.serial(lf.embedding(10, 8), lf.lstm(8), lf.dense(10))
    own = lf.map_layers(lambda layer: layer.replace(backward=layer.backward), net)
    prompt = torch.tensor([[1, 2, 3]])
    params = net.init(lf.Key(0), prompt)

    class Largest:
        __hash__ = None

        def __call__(self, logits, key):
            return logits.argmax(-1)

    tokens = [written(lf.decode(n), params, prompt, 4, sampler=Largest()) for n in (net, own)]
    assert same_bits(*tokens)
    assert tokens[0].shape == (1, 4)
