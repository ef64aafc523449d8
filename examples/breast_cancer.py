"""Tell malignant from benign tumours, on scikit-learn's breast cancer data.

The same small network is trained twice. The first run trains on all examples and is measured on
those same examples. The second sets a fifth of the examples aside, trains on the rest, and is
measured on the fifth that it never saw.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from learning_curve import save_learning_curve
from options import picture_file, positive_int
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import lincoln_fn as lf

BATCH_SIZE = 128
TIME = "A default run takes about 10 seconds on two cores."


def make_network(init: str) -> lf.Layer:
    """Make the network, which gives the log-probability that a tumour is benign."""
    dense = lf.dense
    if init == "normal":
        normal, zero = lf.initializers.normal(0.01), lf.initializers.constant(0.0)
        dense = partial(lf.dense, weight_init=normal, bias_init=zero)
    return lf.serial(dense(10), lf.sigmoid(), dense(1), lf.log_sigmoid())


def load_data() -> tuple[Tensor, Tensor]:
    """Load the features, and the labels: 1 for benign, 0 for malignant."""
    data = load_breast_cancer()
    return torch.as_tensor(data.data), torch.as_tensor(data.target)


def standardise(features: Tensor, train_rows: Tensor) -> Tensor:
    """Shift and scale each feature to mean 0 and variance 1 over the rows to train on."""
    scaler = StandardScaler().fit(features[train_rows])
    return torch.as_tensor(scaler.transform(features), dtype=torch.float32)


def train_network(
    net: lf.Layer,
    data: tuple[Tensor, Tensor],
    train_rows: Tensor,
    measured_rows: Tensor,
    key: lf.Key,
    epochs: int,
) -> Iterator[lf.FitRecord]:
    """Train on some rows of the data, and give the accuracy on others every 20 epochs."""
    features, labels = data
    x = standardise(features, train_rows)
    optimizer = lf.optim.sgd(0.003)
    state = lf.init_state(net, optimizer, key, x)
    step = lf.make_step(net, lf.losses.log_sigmoid_loss(reduction="sum"), optimizer)
    train = x[train_rows], labels[train_rows]
    batches = lf.data.batches(train, BATCH_SIZE, key=state.key, epochs=epochs)
    measured = [(x[measured_rows], labels[measured_rows])]
    accuracy = partial(lf.metrics.binary_accuracy, threshold=math.log(0.5))
    losses: list[float] = []
    began = time.perf_counter()
    for state, record in lf.train(step, state, batches):
        losses.append(record.loss)
        if record.step % (20 * batches.per_epoch) == 0 or record.step == len(batches):
            epoch = 1 + (record.step - 1) // batches.per_epoch
            score = lf.evaluate(net, state.params, measured, {"accuracy": accuracy})
            mean, seconds = sum(losses) / len(losses), time.perf_counter() - began
            yield lf.FitRecord(record.step, epoch, mean, score["accuracy"], seconds)
            losses.clear()


def print_table(
    on_all: Iterator[lf.FitRecord], on_split: Iterator[lf.FitRecord]
) -> tuple[list[lf.FitRecord], list[lf.FitRecord]]:
    """Train both networks, print their histories side by side as they grow, and return them."""
    print("            trained on all examples    trained on four fifths")
    print("epoch       loss  training accuracy       loss  held-out accuracy", flush=True)
    rows = []
    for first, second in zip(on_all, on_split, strict=True):
        rows.append((first, second))
        print(
            f"{first.epoch:5}  {first.loss:9.3f}  {first.metric:17.3%}"
            f"  {second.loss:9.3f}  {second.metric:17.3%}",
            flush=True,
        )
    return [first for first, _ in rows], [second for _, second in rows]


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=TIME,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--key", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument("--epochs", type=positive_int, default=500, help="default: 500")
    parser.add_argument(
        "--init",
        choices=("torch", "normal"),
        default="torch",
        help="initial parameters: as torch draws them (the default), or weights from a normal"
        " distribution with standard deviation 0.01 and biases of 0",
    )
    parser.add_argument(
        "--plot", type=picture_file, metavar="FILE.png", help="save the learning curves"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on all examples and on a part of them, and print what came of both."""
    options = parse_options(arguments)
    order_key, all_key, split_key = (lf.Key(options.key).fold_in(i) for i in range(3))
    net = make_network(options.init)
    data = load_data()
    count = len(data[0])

    rows = lf.keys.permutation(order_key, count)
    on_all_run = train_network(net, data, rows, rows, all_key, options.epochs)
    held_out, rest = rows[: count // 5], rows[count // 5 :]
    on_split_run = train_network(net, data, rest, held_out, split_key, options.epochs)

    on_all, on_split = print_table(on_all_run, on_split_run)
    print(
        f"\nTraining accuracy {on_all[-1].metric:.3%}: on the {count} examples of the first run,"
        " which it was trained on."
        f"\nHeld-out accuracy {on_split[-1].metric:.3%}: on {len(held_out)} examples that the"
        f" second run, which was trained on the other {len(rest)}, never saw."
        "\nA loss is the sum over a batch, averaged over the batches since the line before."
    )
    if options.plot:
        sizes = {f"trained on all {count} examples": count, f"trained on {len(rest)}": len(rest)}
        accuracies = {
            f"trained on all {count}, measured on the same": on_all,
            f"trained on {len(rest)}, measured on the other {len(held_out)}": on_split,
        }
        save_learning_curve(
            options.plot,
            "Breast cancer, a 30-10-1 network",
            dict(zip(sizes, (on_all, on_split), strict=True)),
            accuracies,
            {name: -(-size // BATCH_SIZE) for name, size in sizes.items()},
        )


if __name__ == "__main__":
    main()
