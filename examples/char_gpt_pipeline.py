"""Learn to write, character by character, with a transformer in four stages of a pipeline.

The scores are those of the embedding: the first stage and the last have the same table. The text is
the help on Python's topics that comes with every Python. Printed are the bits per character as the
network learns, those on held-out text beside a bigram model's, and a sample.

    python char_gpt_pipeline.py
    torchrun --nproc-per-node 4 char_gpt_pipeline.py

With 1, 2 or 4 processes, and with each schedule, the numbers are the same, bit for bit.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import torch
from characters import bigram_bits, bits_per_character, load_text, random_windows, sample
from options import positive_int

import lincoln_fn as lf

STAGES, BATCH_SIZE, LENGTH, WIDTH = 4, 32, 64, 64
TIED = (("0.0", "3.2"),)  # layer 0 of stage 0, and layer 2 of stage 3
SCHEDULES = {
    "gpipe": lf.distributed.gpipe,
    "1f1b": lf.distributed.one_f_one_b,
    "h1": lf.distributed.zero_bubble_h1,
    "h2": lf.distributed.zero_bubble_h2,
}


def make_stages(alphabet_size: int) -> tuple[lf.Layer, ...]:
    """Make the stages, from codes (batch, length) to logits (batch, alphabet_size, length)."""
    attend = lf.serial(lf.layer_norm(), lf.multi_head_attention(4, is_causal=True))
    think = lf.serial(lf.layer_norm(), lf.dense(4 * WIDTH), lf.gelu(), lf.dense(WIDTH))
    block = lf.serial(lf.residual(attend), lf.residual(think))
    small = lf.initializers.normal(0.1)
    return (
        lf.serial(
            lf.embedding(alphabet_size, WIDTH, weight_init=small),
            lf.positional_embedding(LENGTH, weight_init=small),
            block,
        ),
        block,
        block,
        lf.serial(
            block, lf.layer_norm(), lf.distributed.scores(alphabet_size), lf.permute(0, 2, 1)
        ),
    )


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="A default run takes about 2 minutes on two cores.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--key", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument(
        "--steps", type=positive_int, default=1000, help="training steps (default: 1000)"
    )
    parser.add_argument(
        "--sample", type=int, default=300, help="characters to write (default: 300)"
    )
    parser.add_argument(
        "--schedule", choices=SCHEDULES, default="h1", help="of the stages (default: h1)"
    )
    parser.add_argument(
        "--microbatches", type=positive_int, default=8, help="in a batch of 32 windows (default: 8)"
    )
    return parser.parse_args(arguments)


def train(options: argparse.Namespace, group: lf.distributed.Group) -> None:
    """Train the stages of this process, and let the first process print."""
    is_first = group.rank == 0
    text = load_text()
    net, reduce = lf.distributed.pipeline(
        make_stages(len(text.alphabet)),
        SCHEDULES[options.schedule](STAGES, options.microbatches),
        group,
        tied=TIED,
        max_norm=1.0,
    )
    optimizer = lf.optim.adamw(0.003)
    state = lf.init_state(net, optimizer, lf.Key(options.key), text.train[None, :LENGTH])
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer, reduce=reduce)
    windows = random_windows(text.train, BATCH_SIZE, LENGTH, options.steps, state.key)
    losses: list[float] = []
    for state, record in lf.train(step, state, windows):
        losses.append(record.loss)
        if is_first and (record.step % 100 == 0 or record.step == options.steps):
            bits = sum(losses) / len(losses) / math.log(2)
            print(f"step {record.step:5}  {bits:.3f} bits per character", flush=True)
            losses.clear()

    # All processes compute a prediction together.
    ours, bigram = bits_per_character(net, state.params, text.held_out, LENGTH), bigram_bits(text)
    if is_first:
        print(f"\nHeld out: {ours:.3f} bits per character; the bigram model {bigram:.3f}.")
    if options.sample:
        written = sample(net, state.params, text, LENGTH, options.sample, lf.Key(options.key))
        if is_first:
            print(f"\nA sample:\n{written}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure and write."""
    options = parse_options(arguments)
    torch.set_num_threads(1)  # of each process, so that any number of them gives the same bits
    with lf.distributed.connect() as group:
        train(options, group)


if __name__ == "__main__":
    main()
