"""Train nanoGPT's network for CPUs, in its configuration, with every gradient by hand.

    python examples/char_nanogpt.py --text shakespeare.txt --compile

It is the command that nanoGPT's README has for a laptop: 4 layers, 4 heads, 128 features, 64
characters, batches of 12, 2,000 steps. There it reaches a loss of 1.88 on held-out text of
Shakespeare, which is 2.71 bits per character. Without --text, it learns the help on Python's topics
that comes with every Python.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from characters import parse_options, run

import lincoln_fn as lf

LAYERS, HEADS, WIDTH = 4, 4, 128
BATCH_SIZE, LENGTH, STEPS = 12, 64, 2000
# The rate rises for so many steps, and falls along half a cosine until the last one.
LR, LR_MIN, WARMUP = 1e-3, 1e-4, 100


def make_network(alphabet_size: int) -> lf.Layer:
    """Make the network, from codes (batch, length) to logits (batch, alphabet_size, length)."""
    small = lf.initializers.normal(0.02)
    smaller = lf.initializers.normal(0.02 / math.sqrt(2 * LAYERS))
    attention = lf.multi_head_attention(
        HEADS, bias=False, is_causal=True, weight_init=small, output_weight_init=smaller
    )
    attend = lf.serial(lf.layer_norm(bias=False), attention)
    think = lf.serial(
        lf.layer_norm(bias=False),
        lf.dense(4 * WIDTH, bias=False, weight_init=small),
        lf.gelu(),
        lf.dense(WIDTH, bias=False, weight_init=smaller),
    )
    body = lf.serial(
        lf.positional_embedding(LENGTH, weight_init=small),
        lf.repeat(LAYERS, lf.serial(lf.residual(attend), lf.residual(think))),
        lf.layer_norm(bias=False),
    )
    embedding = lf.embedding(alphabet_size, WIDTH, weight_init=small)
    return lf.serial(lf.tied(embedding, body), lf.permute(0, 2, 1))


def make_optimizer(steps: int = STEPS) -> lf.Optimizer:
    """Make the optimizer of a run of so many steps."""
    rise = lf.schedules.linear(LR / (WARMUP + 1), LR, WARMUP)
    fall = lf.schedules.cosine(LR, max(steps - WARMUP, 1), LR_MIN)
    rate = lf.schedules.joined((rise, fall), (WARMUP,))

    def adamw(weight_decay: float) -> lf.Optimizer:
        return lf.optim.adamw(rate, (0.9, 0.99), weight_decay=weight_decay)

    # The weights of norms do not decay: those of the blocks, and that of the last norm.
    norms = ("0.1.1.*.0.weight", "0.1.2.weight")
    by_path = lf.optim.by_path({**dict.fromkeys(norms, adamw(0.0)), "*": adamw(0.1)})
    return lf.optim.chain(lf.optim.clip_by_global_norm(1.0), by_path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure and write."""
    options = parse_options(__doc__, arguments, time_taken="2 minutes", steps=STEPS)
    run(make_network, make_optimizer(options.steps), BATCH_SIZE, LENGTH, options)


if __name__ == "__main__":
    main()
