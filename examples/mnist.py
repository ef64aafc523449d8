"""Read handwritten digits: a 784-500-10 network on MNIST, with softmax or log-softmax output.

With `--output softmax` the network gives probabilities and learns by the cross-entropy, with
`--output log_softmax` log-probabilities and the negative log-likelihood: the same loss of the same
parameters, of which the second cannot underflow. The accuracy on the 10,000 test images is printed
every 100 steps.

With `--checkpoint DIR` the state is saved every 100 steps, and a run that was stopped, however
abruptly, is taken up where it was last saved; it ends with the parameters that it would have had.

The environment variable LINCOLN_FN_DATA names the folder that holds the data, in MNIST/raw. Where
it is unset, torchvision downloads the data once, into ~/.cache/lincoln_fn.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from learning_curve import save_learning_curve
from options import picture_file, positive_int
from torch import Tensor
from torchvision.datasets import MNIST

import lincoln_fn as lf

BATCH_SIZE = 128
TIME = (
    "A default run takes about half a minute on two cores. The first run downloads 12 MB where"
    " LINCOLN_FN_DATA is unset."
)


def load_data() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Load the training and the test data, or exit and say where the files belong."""
    folder = os.environ.get("LINCOLN_FN_DATA")
    root = Path(folder or "~/.cache/lincoln_fn").expanduser()
    try:
        train, test = (MNIST(root, train=train, download=not folder) for train in (True, False))
    except (OSError, RuntimeError) as error:  # between them, all that a failed download raises
        raise SystemExit(
            "Place the MNIST files train-images-idx3-ubyte, train-labels-idx1-ubyte,"
            " t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, unpacked, in"
            f" {root / 'MNIST' / 'raw'}, or set LINCOLN_FN_DATA to a folder that has them in"
            " MNIST/raw."
        ) from error
    return (to_rows(train.data), train.targets), (to_rows(test.data), test.targets)


def to_rows(images: Tensor) -> Tensor:
    """Make each image a row of 784 numbers, of mean 0 and variance 1 over the training data."""
    # In place, because each further copy of the training data would take 188 MB.
    return images.flatten(1).float().div_(255).sub_(0.1307).div_(0.3081)


def make_network(output: str) -> tuple[lf.Layer, lf.Loss]:
    """Make the network with the output layer of that name, and the loss that goes with it."""
    if output == "softmax":
        last, loss = lf.softmax(), lf.losses.cross_entropy(reduction="sum")
    else:
        last, loss = lf.log_softmax(), lf.losses.nll(reduction="sum")
    return lf.serial(lf.dense(500), lf.sigmoid(), lf.dense(10), last), loss


def train_network(
    net: lf.Layer,
    loss: lf.Loss,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    key: lf.Key,
    epochs: int,
    checkpoints: lf.checkpoint.Directory | None = None,
) -> Iterator[lf.FitRecord]:
    """Train, and give a record of loss and test accuracy every 100 steps and at the end."""
    optimizer = lf.optim.sgd(0.003)
    start = lf.init_state(net, optimizer, key, train[0])
    if checkpoints:
        start = checkpoints.latest(start) or start
    step = lf.make_step(net, loss, optimizer)
    batches = lf.data.batches(
        train, BATCH_SIZE, key=start.key, epochs=epochs, start=int(start.step)
    )
    states = lf.train(step, start, batches)
    if checkpoints:
        states = lf.checkpoint.every(states, checkpoints, steps=100)
    test_batches = lf.data.batches(test, 1000)  # small enough to stay in the processor's cache
    losses: list[float] = []
    began = time.perf_counter()
    for state, record in states:
        losses.append(record.loss)
        if record.step % 100 == 0 or record.step == epochs * batches.per_epoch:
            score = lf.evaluate(net, state.params, test_batches, {"test": lf.metrics.accuracy})
            epoch = 1 + (record.step - 1) // batches.per_epoch
            mean, seconds = sum(losses) / len(losses), time.perf_counter() - began
            yield lf.FitRecord(record.step, epoch, mean, score["test"], seconds)
            losses.clear()


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=TIME,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output",
        choices=("softmax", "log_softmax"),
        default="log_softmax",
        help="the output layer (default: log_softmax)",
    )
    parser.add_argument("--key", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument(
        "--epochs", type=positive_int, help="default: 5 for log_softmax, 1 for softmax"
    )
    parser.add_argument(
        "--plot", type=picture_file, metavar="FILE.png", help="save the learning curves"
    )
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
    epochs = options.epochs
    if epochs is None:
        epochs = 1 if options.output == "softmax" else 5
    net, loss = make_network(options.output)
    began = time.perf_counter()
    train, test = load_data()
    load_seconds = time.perf_counter() - began

    history = []
    key, checkpoints = lf.Key(options.key), options.checkpoint
    for record in train_network(net, loss, train, test, key, epochs, checkpoints):
        history.append(record)
        print(
            f"epoch {record.epoch}  step {record.step:5}  loss {record.loss:8.3f}"
            f"  test accuracy {record.metric:.4f}",
            flush=True,
        )
    if not history:
        print(f"The run in {checkpoints.path} has taken all its steps.")
        return
    print(
        f"\nTest accuracy {history[-1].metric:.2%}: on {len(test[0])} images, none of which was"
        " trained on."
        "\nA loss is the sum over a batch, averaged over the batches since the line before."
        f"\nLoading took {load_seconds:.1f} s, training and measuring {history[-1].seconds:.1f} s."
    )
    if options.plot:
        title = f"MNIST, a 784-500-10 network with {options.output} output"
        of_train = f"of the {len(train[0]):,} training images"
        on_test = f"on the {len(test[0]):,} test images"
        steps_per_epoch = {of_train: -(-len(train[0]) // BATCH_SIZE)}
        save_learning_curve(
            options.plot, title, {of_train: history}, {on_test: history}, steps_per_epoch
        )


if __name__ == "__main__":
    main()
