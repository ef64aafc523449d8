"""The character models learn step by step what torch's autograd makes the same networks learn."""

import itertools
import math
import re

import pytest
import torch
import torch.nn.functional as F
from helpers.cases.case import torch_names
from helpers.compare import same_bits, same_number
from torch import nn
from torch.func import functional_call

import lincoln_fn as lf

STEPS, BATCH_SIZE, LENGTH = 100, 4, 24


def dense(params, x):
    return F.linear(x, params.weight.mT, params.bias)


def norm(params, x):
    return F.layer_norm(x, x.shape[-1:], params.weight, params.bias)


def lstm_logits(params, x):
    """Compute what char_lstm's network does, by torch's LSTM."""
    embedding, cells, out, _ = params
    module = nn.LSTM(embedding.weight.shape[1], len(cells.cells[0][0].weight_hh), batch_first=True)
    h = functional_call(module, torch_names(cells), (F.embedding(x, embedding.weight),))[0]
    return dense(out, h).mT


def heads(x):
    return x.unflatten(-1, (4, -1)).transpose(-3, -2)


def gpt_logits(params, x):
    """Compute what char_gpt's network does, in torch's functions."""
    embedding, positions, blocks, last_norm, out, _ = params
    h = F.embedding(x, embedding.weight) + positions.weight[: x.shape[1]]
    for (attend, _), (think, _) in blocks:
        z, p = norm(attend[0], h), attend[1]
        q, k, v = (heads(dense(part, z)) for part in (p.query, p.key, p.value))
        merged = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + dense(p.output, merged.transpose(-3, -2).flatten(-2))
        h = h + dense(think[3], F.gelu(dense(think[1], norm(think[0], h))))
    return dense(out, norm(last_norm, h)).mT


MODELS = {
    "char_lstm": (lstm_logits, lambda leaves: torch.optim.Adam(leaves, lr=0.005)),
    "char_gpt": (gpt_logits, lambda leaves: torch.optim.AdamW(leaves, lr=0.003, weight_decay=0.01)),
}


@pytest.mark.full
@pytest.mark.parametrize("name", MODELS)
def test_the_first_losses_are_those_of_autograd(example, name):
    module, characters = example(name), example("characters")
    text = characters.load_text()
    net, optimizer = module.make_network(len(text.alphabet)), module.make_optimizer()
    state = lf.init_state(net, optimizer, lf.Key(0), text.train[None, :LENGTH])
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    logits, make_optimizer = MODELS[name]
    params = lf.tree.map(lambda leaf: leaf.clone().requires_grad_(), state.params)
    their_optimizer = make_optimizer(lf.tree.leaves(params))
    windows = characters.random_windows(text.train, BATCH_SIZE, LENGTH, STEPS, lf.Key(1))
    first, last = None, None
    for x, target in windows:
        state, ours = step(state, (x, target))
        their_optimizer.zero_grad()
        theirs = F.cross_entropy(logits(params, x), target)
        theirs.backward()
        nn.utils.clip_grad_norm_(lf.tree.leaves(params), 1.0)
        their_optimizer.step()
        assert same_number(ours.item(), theirs.item(), dtype=torch.float32)
        first, last = first or ours.item(), ours.item()
    assert last < first - 0.5


@pytest.mark.full
@pytest.mark.parametrize("name", [*MODELS, "char_mamba"])
def test_a_short_run_prints_bits_beside_the_bigram_models_and_a_sample(example, capsys, name):
    example(name).main(["--steps", "2", "--sample", "7"])
    printed = capsys.readouterr().out
    held_out = re.search(
        r"Held out: (\d\.\d{3}) bits per character; the bigram model (\d\.\d{3})", printed
    )
    ours, bigram = map(float, held_out.groups())
    assert 2 < bigram < 4 < ours < 8
    assert len(printed.partition("A sample:\n")[2]) == 7 + 1


def test_the_bigram_models_bits_are_those_of_its_smoothed_counts(example):
    characters = example("characters")
    text = characters.Text(torch.tensor([0, 1, 0, 1, 1]), torch.tensor([0, 1, 1]), "ab")
    # From a came b twice and a never, from b came a and b once each; one is added to each count.
    assert same_number(
        characters.bigram_bits(text),
        -(math.log2(3 / 4) + math.log2(2 / 4)) / 2,
        dtype=torch.float32,
    )


@pytest.mark.full
def test_nanogpt_learns_a_file(example, capsys, tmp_path):
    file = tmp_path / "text"
    file.write_text("abracadabra" * 70, encoding="utf-8")
    text = example("characters").load_text(file)
    assert text.alphabet == "abcdr"
    assert "".join(text.alphabet[code] for code in text.train[:11].tolist()) == "abracadabra"
    options = ["--text", str(file), "--steps", "2", "--sample", "7"]
    example("char_nanogpt").main(options)
    printed = capsys.readouterr().out
    assert printed.startswith("693 characters to train on, 796,416 parameters")
    assert set(printed.partition("A sample:\n")[2].strip()) <= set("abcdr")


def test_windows_are_a_function_of_the_key_and_targets_are_one_further_on(example):
    characters = example("characters")
    codes = torch.arange(50)
    batches = list(characters.random_windows(codes, 3, 5, 4, lf.Key(0)))
    again = list(characters.random_windows(codes, 3, 5, 4, lf.Key(0)))
    assert len(batches) == 4
    for (x, target), (x_again, _) in zip(batches, again, strict=True):
        assert same_bits(x, x_again)
        assert same_bits(target, x + 1)
        assert x.shape == (3, 5)
    assert not same_bits(batches[0][0], batches[1][0])


def test_held_out_bits_are_the_mean_over_all_windows(example):
    characters = example("characters")
    codes = torch.tensor([0, 1, 2, 1, 0, 2, 2])
    net = lf.serial(lf.embedding(3, 3), lf.permute(0, 2, 1))
    params = net.init(lf.Key(0), codes[None])
    given = characters.bits_per_character(net, params, codes, 3)
    logits = net.predict(params, codes[None, :6])
    expected = F.cross_entropy(logits, codes[None, 1:]).item() / math.log(2)
    assert same_number(given, expected, dtype=torch.float32)


@pytest.mark.full
def test_batch_sizes_follow_the_noise_and_see_as_many_windows(example, capsys, picture):
    example("batch_size").main(["--windows", "1700", "--plot", str(picture)])
    printed = capsys.readouterr().out
    fixed, by_noise = printed.partition("fixed: ")[::2]
    for lines in (fixed, by_noise):
        rows = re.findall(r"(\d+) windows +(\d+) steps of now +(\d+) ", lines)
        windows, steps, sizes = zip(*(map(int, row) for row in rows), strict=True)
        assert 1700 <= windows[-1] < 1700 + 128
        taken = [after - before for before, after in itertools.pairwise((0, *steps))]
        assert windows[-1] == sum(map(math.prod, zip(taken, sizes, strict=True)))
        assert (len(set(sizes)) == 1) == (lines == fixed)
    assert len(re.findall(r"\d\.\d{3} bits .* correlation -?\d\.\d{3}", printed)) == 2


def test_a_batch_is_the_power_of_two_below_the_noise_scale(example):
    size_for = example("batch_size").size_for
    sizes = [size_for(scale) for scale in (0.0, 3.9, 4.0, 31.9, 32.0, 127.0, 200.0, -5.0, math.inf)]
    assert sizes == [4, 4, 4, 16, 32, 64, 128, 128, 128]
