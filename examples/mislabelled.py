"""Find digits with a wrong label among 1,000, by the gradient of the whole training run.

Some labels of scikit-learn's digits are changed before a small network learns them. Then the run
is walked back once: each training digit gets the derivative of the test loss in its weight. The
digits that harm most are the suspects. Beside it are two cheaper lists: the digits whose own loss
is highest after training, and those that `lf.curvature.influence` names.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from options import picture_file, positive_int
from sklearn.datasets import load_digits
from torch import Tensor

import lincoln_fn as lf

EXAMPLES, BATCH_SIZE = 1000, 50
TIME = "A default run takes about 15 seconds on two cores."


def load_data() -> tuple[Tensor, Tensor]:
    """Load 1,797 images of 64 pixels, and their digits."""
    data = load_digits()
    return torch.tensor(data.data / 16 - 0.5, dtype=torch.float32), torch.tensor(data.target)


def mislabel(digits: Tensor, count: int, key: lf.Key) -> tuple[Tensor, Tensor]:
    """Change some labels, and tell which."""
    which, by = key.fold_in(0), key.fold_in(1)
    rows = lf.keys.permutation(which, len(digits))[:count]
    other = (digits[rows] + 1 + (lf.keys.bits(by, (count,)) % 9)) % 10
    return digits.index_copy(0, rows, other), rows


def train(x: Tensor, labels: Tensor, steps: int, key: lf.Key) -> lf.replay.Run:
    """Make the run; `replay` trains it."""
    net = lf.serial(lf.dense(32), lf.tanh(), lf.dense(10))
    optimizer = lf.optim.adamw(0.003)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    epochs = -(-steps * BATCH_SIZE // len(x))
    batches = lf.data.batches((x, labels), BATCH_SIZE, key=key, epochs=epochs)
    return lf.replay.Run(step, batches, lf.init_state(net, optimizer, key, x[:1]))


def save_picture(path: Path, x: Tensor, labels: Tensor, rows: Tensor) -> None:
    """Save the suspects, each under the label that it was trained with."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.1 * -(-len(rows) // 10)))
    for i, row in enumerate(rows.tolist()):
        axes = figure.add_subplot(-(-len(rows) // 10), 10, i + 1)
        axes.imshow(x[row].view(8, 8).numpy(), cmap="gray_r")
        axes.set_title(str(labels[row].item()), fontsize=8)
        axes.set_axis_off()
    figure.tight_layout(pad=0.3)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, walk back and print."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\n{TIME}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=positive_int, default=200)
    parser.add_argument("--wrong", type=positive_int, default=30, help="labels that are changed")
    parser.add_argument("--key", type=int, default=0)
    parser.add_argument("--plot", type=picture_file, help="save a picture of the suspects")
    options = parser.parse_args(arguments)
    images, digits = load_data()
    x, test = images[:EXAMPLES], (images[EXAMPLES:], digits[EXAMPLES:])
    labels, wrong = mislabel(digits[:EXAMPLES], options.wrong, lf.Key(options.key))
    run = train(x, labels, options.steps, lf.Key(options.key + 1))

    found = lf.replay.attribute(run, test, steps=options.steps)
    print(found)
    print(f"\nsmoothness {lf.replay.smoothness(run, steps=options.steps):.2f}\n")
    suspects = found.harmful(options.wrong)

    net, loss = run.step.net, run.step.loss
    params = run.reached(run.start, options.steps).params
    each = lf.losses.softmax_cross_entropy(reduction="none")
    own_loss, _ = each.forward(net.predict(params, x), labels)
    influence = lf.curvature.influence(net, params, x, loss, labels, test, damping=1e-2)
    lists = {
        "the gradient of the run": suspects,
        "influence": influence.argsort(descending=True)[: options.wrong],
        "their own loss": own_loss.argsort(descending=True)[: options.wrong],
    }
    for name, rows in lists.items():
        count = torch.isin(rows, wrong).sum().item()
        print(f"{count} of {options.wrong} wrong labels are the first suspects by {name}")
    if options.plot:
        save_picture(options.plot, x, labels, suspects)


if __name__ == "__main__":
    main()
