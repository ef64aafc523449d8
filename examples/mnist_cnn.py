"""Read handwritten digits with a convolutional network, 99 % and more of them.

Two convolutions of 5 by 5 with ReLU and max-pooling, two dense layers with dropout between them,
AdamW with a learning rate that warms up and falls again. The accuracy on the 10,000 test images is
printed after each epoch; data and `--checkpoint` as for mnist.py.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from mnist import load_data
from options import positive_int
from tqdm import tqdm

import lincoln_fn as lf

BATCH_SIZE = 128
TIME = "A default run takes about 3 minutes on two cores."


def make_network() -> lf.Layer:
    """Make the network, from rows of 784 pixels to log-probabilities of ten digits."""
    return lf.serial(
        lf.reshape(1, 28, 28),
        lf.conv2d(16, 5, padding=2),
        lf.relu(),
        lf.max_pool2d(2),
        lf.conv2d(32, 5, padding=2),
        lf.relu(),
        lf.max_pool2d(2),
        lf.flatten(),
        lf.dense(128),
        lf.relu(),
        lf.dropout(0.3),
        lf.dense(10),
        lf.log_softmax(),
    )


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=TIME,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--key", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument("--epochs", type=positive_int, default=5, help="default: 5")
    parser.add_argument(
        "--checkpoint",
        type=lf.checkpoint.Directory,
        metavar="DIR",
        help="save checkpoints in DIR, and go on from the newest there",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on the training images, and print the accuracy on the test images as it grows."""
    options = parse_options(arguments)
    train, test = load_data()
    net = make_network()
    steps = options.epochs * -(-len(train[0]) // BATCH_SIZE)
    optimizer = lf.optim.adamw(lf.schedules.one_cycle(0.004, total_steps=steps))
    state = lf.init_state(net, optimizer, lf.Key(options.key), train[0])
    if options.checkpoint:
        state = options.checkpoint.latest(state) or state
    step = lf.make_step(net, lf.losses.nll(), optimizer)
    batches = lf.data.batches(
        train, BATCH_SIZE, key=state.key, epochs=options.epochs, start=int(state.step)
    )
    states = lf.train(step, state, batches)
    if options.checkpoint:
        states = lf.checkpoint.every(states, options.checkpoint, steps=100)
    test_batches = lf.data.batches(test, 500)

    began = time.perf_counter()
    for state, record in lf.streams.progress(states, total=len(batches)):
        if record.step % batches.per_epoch == 0:
            scores = lf.evaluate(net, state.params, test_batches, {"accuracy": lf.metrics.accuracy})
            tqdm.write(  # above the bar
                f"epoch {record.step // batches.per_epoch}  loss of the last batch"
                f" {record.loss:.4f}  test accuracy {scores['accuracy']:.4f}"
                f"  {time.perf_counter() - began:.0f} s"
            )


if __name__ == "__main__":
    main()
