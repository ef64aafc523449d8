"""The pipeline of a character model trains the tied network, in any number of processes."""

import re

import pytest
from helpers.compare import same_number
from helpers.examples import run_in_two_processes

import lincoln_fn as lf

pytestmark = pytest.mark.full

OPTIONS = ["--steps", "2", "--sample", "7"]


def test_it_learns_what_the_tied_network_learns_in_one_piece(example):
    module, characters = example("char_gpt_pipeline"), example("characters")
    text = characters.load_text()
    stages = module.make_stages(len(text.alphabet))
    net, reduce = lf.distributed.pipeline(
        stages, lf.distributed.zero_bubble_h2(4, 3), lf.distributed.alone(), tied=module.TIED,
        max_norm=1.0,
    )  # fmt: skip
    embedding, *first = stages[0].parts
    block, norm, _, order = stages[3].parts
    whole = lf.serial(lf.tied(embedding, lf.serial(*first, *stages[1:3], block, norm)), order)
    optimizer, loss = lf.optim.sgd(0.5), lf.losses.softmax_cross_entropy()
    clipped = lf.optim.chain(lf.optim.clip_by_global_norm(1.0), optimizer)
    state = lf.init_state(net, optimizer, lf.Key(0), text.train[None, :16])
    (table, *rest), second, third, (last, scale, _, _) = state.params
    params = ((table, (*rest, second, third, last, scale)), ())
    theirs = lf.init_state(whole, clipped, lf.Key(0), text.train[None, :16], params=params)
    step = lf.make_step(net, loss, optimizer, reduce=reduce)
    their_step = lf.make_step(whole, loss, clipped)
    losses = []
    for batch in characters.random_windows(text.train, 4, 16, 10, lf.Key(1)):
        state, value = step(state, batch)
        theirs, expected = their_step(theirs, batch)
        assert same_number(value, expected)
        losses.append(value.item())
    assert losses[-1] < losses[0] - 0.5


def test_two_processes_print_what_one_prints(example, capsys):
    example("char_gpt_pipeline").main(OPTIONS)
    printed = capsys.readouterr().out
    ours, bigram = map(
        float, re.search(r"Held out: (\S+) bits .* model (\S+)\.\n", printed).groups()
    )
    assert 2 < bigram < 4 < ours < 8
    assert len(printed.partition("A sample:\n")[2]) == 7 + 1
    options = *OPTIONS, "--schedule", "gpipe"
    assert run_in_two_processes("char_gpt_pipeline.py", *options) == printed
