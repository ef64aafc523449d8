"""Teach a small language model a preference by DPO: of two texts, the one with the larger digits.

The model first learns a language in which each digit is one above or below the one before it. Then
it writes pairs of texts, and learns which one of each pair is preferred. Printed are the mean digit
that it writes and the share of steps that the language allows. The larger beta, the nearer the
model stays to what it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from options import positive_int
from torch import Tensor

import lincoln_fn as lf

BEGIN, LENGTH = 10, 12
NET = lf.serial(lf.embedding(11, 16), lf.gru(48), lf.dense(10))
SCORED = lf.branch(lf.serial(lf.select(0), NET), lf.select(1), merge=lf.token_log_probs())
PAIR = lf.shared(lf.serial(SCORED, lf.sum(-1)))  # the log-probabilities of two texts


def text_of(digits: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the network reads, and what it should predict there."""
    return torch.nn.functional.pad(digits[:, :-1], (1, 0), value=BEGIN), digits


def write(name: str, params: Any, count: int, key: lf.Key) -> Tensor:
    """Let the model write texts, and print what they are like."""
    begin = torch.full((count, 1), BEGIN)
    stream = lf.generate(lf.decode(NET), params, begin, key=key, max_new_tokens=LENGTH)
    texts = torch.stack([digit for _, digit in stream], 1)
    allowed = torch.isin(texts.diff() % 10, torch.tensor([1, 9])).float().mean()
    print(f"{name:10s} mean digit {texts.float().mean():.2f}, allowed steps {100 * allowed:.1f} %")
    return texts


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn the language, then the preferences."""
    note = "A default run takes about 10 seconds on two cores."
    parser = argparse.ArgumentParser(description=f"{__doc__}\n{note}")
    parser.add_argument("--pairs", type=positive_int, default=2000, help="(default: 2000)")
    n, keys = parser.parse_args(arguments).pairs, [lf.Key(0).fold_in(i) for i in range(5)]
    first = lf.keys.uniform(keys[0], (n, 1), 0, 10).long()
    steps = 2 * lf.keys.bernoulli(keys[1], (n, LENGTH - 1), 0.5).long() - 1
    language = text_of(torch.cat([first, steps], 1).cumsum(1) % 10)
    optimizer, loss = lf.optim.adam(1e-2), lf.losses.softmax_cross_entropy(dim=-1)
    options = {"epochs": 6, "batch_size": 50, "progress": False}
    state, _ = lf.fit(NET, loss, optimizer, language, key=keys[2], **options)
    a, b = write("before", state.params, 2 * n, keys[3]).chunk(2)
    a_wins = a.sum(1, keepdim=True) > b.sum(1, keepdim=True)
    pairs = text_of(torch.where(a_wins, a, b)), text_of(torch.where(a_wins, b, a))
    reference = ((((), state.params), ()), ())  # the params of PAIR, in which NET has its own
    batches = lf.data.batches(pairs, 50, key=keys[4], epochs=2)
    unlabelled = lf.data.map(lambda chosen, rejected: ((chosen, rejected), None), batches)
    for beta in (0.1, 1.0, 5.0):
        optimizer, loss = lf.optim.adam(1e-3), lf.losses.dpo(beta=beta)
        step = lf.make_step(PAIR, loss, optimizer)
        start = lf.init_state(PAIR, optimizer, keys[0], pairs, params=reference)
        with_reference = lf.data.with_outputs(unlabelled, PAIR, reference)
        *_, (state, _) = lf.train(step, start, with_reference)
        write(f"beta {beta}", state.params[0][0][1], n, keys[3])


if __name__ == "__main__":
    main()
