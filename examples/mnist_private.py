"""Read handwritten digits without learning any one of them: DP-SGD on MNIST.

The gradient of each image is clipped to a norm, and noise is added to the sum. So the trained
network says little about whether any one image was among the training data: it is (epsilon, delta)
differentially private. The network and the settings are those of opacus's example, which reports,
as the mean over 10 runs,

    --epochs 15 --noise 1.3     94.63 +- 0.34 % at epsilon 1.16    (the default)
    --epochs 45 --noise 0.7     97.09 +- 0.17 % at epsilon 6.86

The account is kept by dp-accounting, if it is installed. For the same noise it reports 0.92 and
6.09: a tighter bound was proved since. A batch has each image with probability 240 / 60000, as the
account assumes.

The noise comes from `lf.Key`, which is not a cryptographic generator. Whoever knows the key can
remove the noise.

The accuracy on the 10,000 test images is printed after each epoch; data as for mnist.py.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mnist import load_data
from options import picture_file, positive_int
from torch import Tensor
from tqdm import tqdm

import lincoln_fn as lf
from lincoln_fn import per_example

TIME = "A default run takes about 2 minutes on two cores."


def make_network() -> lf.Layer:
    """Make the network, from rows of 784 pixels to the scores of ten digits."""
    return lf.serial(
        lf.reshape(1, 28, 28),
        lf.conv2d(16, 8, stride=2, padding=3),
        lf.relu(),
        lf.max_pool2d(2, 1),
        lf.conv2d(32, 4, stride=2),
        lf.relu(),
        lf.max_pool2d(2, 1),
        lf.flatten(),
        lf.dense(32),
        lf.relu(),
        lf.dense(10),
    )


def poisson_batches(
    data: tuple[Tensor, Tensor], probability: float, key: lf.Key, steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw batches that have each example with the same probability."""
    x, target = data
    for i in range(steps):
        is_drawn = lf.keys.bernoulli(key.fold_in(i), (len(x),), probability)
        rows = is_drawn.nonzero().squeeze(1)
        yield x[rows], target[rows]


def account(probability: float, noise: float, delta: float) -> Callable[[int], float] | None:
    """Make the function from steps to epsilon; None where dp-accounting is not installed."""
    try:
        import dp_accounting
        from dp_accounting.rdp import RdpAccountant
    except ImportError:
        return None
    event = dp_accounting.PoissonSampledDpEvent(probability, dp_accounting.GaussianDpEvent(noise))

    def epsilon(steps: int) -> float:
        return float(RdpAccountant().compose(event, steps).get_epsilon(delta))

    return epsilon


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=TIME,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--key", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument("--epochs", type=positive_int, default=15, help="default: 15")
    parser.add_argument(
        "--batch-size", type=positive_int, default=240, help="on average (default: 240)"
    )
    parser.add_argument("--lr", type=float, default=0.25, help="default: 0.25")
    parser.add_argument(
        "--noise", type=float, default=1.3, help="in multiples of the norm (default: 1.3)"
    )
    parser.add_argument(
        "--max-norm", type=float, default=1.5, help="what gradients are clipped to (default: 1.5)"
    )
    parser.add_argument("--delta", type=float, default=1e-5, help="default: 1e-5")
    parser.add_argument(
        "--plot", type=picture_file, metavar="FILE.png", help="save accuracy against epsilon"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train privately, and print accuracy and epsilon as they grow."""
    options = parse_options(arguments)
    train, test = load_data()
    probability = options.batch_size / len(train[0])
    per_epoch = round(1 / probability)
    epsilon = account(probability, options.noise, options.delta)
    if epsilon is None:
        print("Epsilon is not computed: that needs dp-accounting (pip install dp-accounting).")

    net, optimizer = make_network(), lf.optim.sgd(options.lr)
    gradient = per_example.clipped(
        options.max_norm, noise=options.noise, batch_size=options.batch_size
    )
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer, gradient=gradient)
    run_key, batch_key = (lf.Key(options.key).fold_in(i) for i in range(2))
    state = lf.init_state(net, optimizer, run_key, train[0], gradient=gradient)
    steps = options.epochs * per_epoch
    states = lf.train(step, state, poisson_batches(train, probability, batch_key, steps))
    test_batches = lf.data.batches(test, 1000)

    history, began = [], time.perf_counter()
    for state, record in lf.streams.progress(states, total=steps):
        if record.step % per_epoch == 0:
            scores = lf.evaluate(net, state.params, test_batches, {"accuracy": lf.metrics.accuracy})
            spent = None if epsilon is None else epsilon(record.step)
            history.append((record.step // per_epoch, spent, scores["accuracy"]))
            private = "" if spent is None else f"  epsilon {spent:.2f}"
            tqdm.write(  # above the bar
                f"epoch {history[-1][0]:2}  test accuracy {scores['accuracy']:.4f}{private}"
                f"  {time.perf_counter() - began:.0f} s"
            )
    if options.plot:
        save_picture(options.plot, history, options)


def save_picture(
    path: Path, history: Sequence[tuple[int, float | None, float]], options: argparse.Namespace
) -> None:
    """Save the accuracy against epsilon or, where there is none, against epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    epochs, spent, accuracy = zip(*history, strict=True)
    has_account = None not in spent
    axes.plot(spent if has_account else epochs, accuracy, marker="o")
    axes.set(
        title=f"Private MNIST: noise {options.noise:g}, norm {options.max_norm:g}",
        xlabel=f"epsilon at delta {options.delta:g}, after each epoch" if has_account else "epoch",
        ylabel="share of the test images classified correctly",
    )
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, format="png")


if __name__ == "__main__":
    main()
