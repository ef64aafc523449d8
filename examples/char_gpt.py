"""Learn to write, character by character, with a small transformer that looks back.

The text is the help on Python's topics that comes with every Python. Printed are the bits per
character as the network learns, those on held-out text beside a bigram model's, and a sample.
"""

from __future__ import annotations

from collections.abc import Sequence

from characters import parse_options, run

import lincoln_fn as lf

BATCH_SIZE, LENGTH = 32, 64


def make_network(alphabet_size: int) -> lf.Layer:
    """Make the network, from codes (batch, length) to logits (batch, alphabet_size, length)."""
    width = 64
    attend = lf.serial(lf.layer_norm(), lf.multi_head_attention(4, is_causal=True))
    think = lf.serial(lf.layer_norm(), lf.dense(4 * width), lf.gelu(), lf.dense(width))
    return lf.serial(
        lf.embedding(alphabet_size, width),
        lf.positional_embedding(LENGTH),
        lf.repeat(3, lf.serial(lf.residual(attend), lf.residual(think))),
        lf.layer_norm(),
        lf.dense(alphabet_size),
        lf.permute(0, 2, 1),
    )


def make_optimizer() -> lf.Optimizer:
    """Make the optimizer."""
    return lf.optim.chain(lf.optim.clip_by_global_norm(1.0), lf.optim.adamw(0.003))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure and write."""
    options = parse_options(__doc__, arguments, time_taken="2 minutes")
    run(make_network, make_optimizer(), BATCH_SIZE, LENGTH, options)


if __name__ == "__main__":
    main()
