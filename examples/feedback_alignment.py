"""Read handwritten digits with another backward pass, and see how well it is aligned.

--rule chooses the backward pass: backpropagation (bp), feedback alignment (fa), sign-symmetric
feedback (usf, brsf, frsf), Kolen-Pollack (kp), direct feedback alignment (dfa), local losses
(local), Forward-Forward (ff) or PEPITA (pepita). After each epoch the script prints the error on
the 10,000 test images, and the angle between the rule's gradient and the true one for each layer:
at 0 degrees they are the same, and below 90 degrees a small step still makes the loss smaller.

--paper takes the network, the optimizer and the data of a published table. Data as for mnist.py.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnist import load_data
from options import picture_file, positive_int
from rule_settings import CLASSES, Examples, Settings, settings_of, shifted
from tqdm import tqdm

import lincoln_fn as lf
from lincoln_fn import rules

RULES = ("bp", "fa", "usf", "brsf", "frsf", "kp", "dfa", "local", "ff", "pepita")
VARIANTS = {"usf": "uniform", "brsf": "batchwise", "frsf": "fixed"}
TIME = "A default run takes about half a minute on two cores."


@dataclass(frozen=True)
class Tested:
    """The error in percent, and the angles in degrees by layer, after some epochs."""

    epoch: int
    error: float
    angles: Mapping[str, float]


def with_rule(rule: str, kind: str, settings: Settings) -> tuple[lf.Layer, lf.Loss]:
    """Make the network of a rule, and its loss."""
    net, loss = settings.net(rule), settings.loss
    if rule in VARIANTS:
        return rules.sign_symmetric(net, variant=VARIANTS[rule]), loss
    if rule == "fa":
        return rules.feedback_alignment(net, feedback_init=settings.feedback_init), loss
    if rule == "kp":
        return rules.kolen_pollack(net), loss
    if rule == "dfa":
        return rules.direct_feedback_alignment(net, feedback_init=settings.feedback_init), loss
    if rule == "local":
        return rules.local_losses(net, CLASSES, kind=kind), rules.local_loss(CLASSES, kind=kind)
    if rule == "ff":
        return rules.forward_forward(net, CLASSES), rules.forward_forward_loss()
    return (rules.pepita(net) if rule == "pepita" else net), loss


def prepared(batches: lf.data.Batches, rule: str, jitter: int, key: lf.Key) -> Iterator[Examples]:
    """Shift the images, and put true and false labels into those for Forward-Forward."""
    for i, (x, target) in enumerate(batches):
        if jitter:
            x = shifted(key.fold_in(i), x, jitter)
        if rule == "ff":
            x, target = rules.true_and_false_labels(key.fold_in(i), x, target, CLASSES)
        yield x, target


def train_network(
    options: argparse.Namespace, settings: Settings, train: Examples, test: Examples
) -> Iterator[Tested]:
    """Train, and give the test error and the angles after each epoch or some."""
    net, loss = with_rule(options.rule, options.kind, settings)
    key = lf.Key(options.seed)
    epochs = options.epochs or settings.epochs
    batches = lf.data.batches(train, settings.batch_size, key=key, epochs=epochs, drop_last=True)
    schedule = settings.schedule(options.rule, len(batches), options.lr)
    optimizer = settings.optimizer(schedule)
    state = lf.init_state(net, optimizer, key, train[0])
    step = lf.make_step(net, loss, optimizer)
    if not options.eager:
        step = lf.compile(step)
    fed = prepared(batches, options.rule, settings.jitter, key.fold_in(-1))
    some = test[0][:500], test[1][:500]
    states = lf.train(step, state, fed)
    for state, record in lf.streams.progress(states, total=len(batches)):
        epoch, rest = divmod(record.step, batches.per_epoch)
        if not rest and (epoch % settings.every == 0 or epoch == epochs):
            scores = lf.evaluate(
                net, state.params, lf.data.batches(test, 500), {"accuracy": lf.metrics.accuracy}
            )
            angles = {}
            if options.rule not in ("bp", "ff"):
                angles = rules.alignment(net, state.params, some[0], loss, some[1])
            yield Tested(epoch, 100 * (1 - scores["accuracy"]), angles)


def save_picture(path: Path, title: str, history: Sequence[Tested]) -> None:
    """Save the test error and the angles against epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.8), layout="constrained")
    figure.suptitle(title)
    error, angle = figure.subplots(1, 2)
    epochs = [tested.epoch for tested in history]
    error.plot(epochs, [tested.error for tested in history], marker=".")
    error.set(title="Test error", xlabel="epoch", ylabel="percent", ylim=(0, None))
    for path_in_net in history[0].angles:
        angles = [tested.angles[path_in_net] for tested in history]
        angle.plot(epochs, angles, marker=".", label=f"layer {path_in_net}")
    angle.axhline(90, color="grey", linestyle=":")
    angle.set(title="Angle to the true gradient", xlabel="epoch", ylabel="degrees", ylim=(0, 120))
    if history[0].angles:
        angle.legend()
    figure.savefig(path, dpi=120, format="png")


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=TIME,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rule", choices=RULES, default="fa", help="default: fa")
    parser.add_argument("--net", choices=("mlp", "lenet"), default="mlp", help="default: mlp")
    parser.add_argument(
        "--paper",
        choices=("biotorch", "nokland", "local", "pepita", "ff"),
        help="the settings of a published table, with their own network",
    )
    parser.add_argument(
        "--kind",
        choices=("prediction", "similarity", "both"),
        default="both",
        help="the losses of --rule local (default: both)",
    )
    parser.add_argument(
        "--width", type=positive_int, default=2000, help="of --paper ff (default: 2000)"
    )
    parser.add_argument("--epochs", type=positive_int, help="default: 5, or as in the paper")
    parser.add_argument("--lr", type=float, help="the learning rate at first, if not the paper's")
    parser.add_argument("--seed", type=int, default=0, help="of all randomness (default: 0)")
    parser.add_argument("--eager", action="store_true", help="do not compile the training step")
    parser.add_argument(
        "--save", type=picture_file, metavar="FILE.png", help="save error and angles by epoch"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on the training images, and print the test error and the angles."""
    options = parse_options(arguments)
    settings = settings_of(options.paper, options.net, options.kind, options.width)
    train, test = ((settings.image(x), target) for x, target in load_data())
    began = time.perf_counter()
    history = []
    for tested in train_network(options, settings, train, test):
        history.append(tested)
        angles = " ".join(f"{angle:.0f}" for angle in tested.angles.values())
        tqdm.write(  # above the bar
            f"epoch {tested.epoch}  test error {tested.error:.2f} %"
            f"{angles and f'  degrees by layer {angles}'}"
            f"  {time.perf_counter() - began:.0f} s"
        )
    best = min(history, key=lambda tested: tested.error)
    tqdm.write(f"Lowest test error {best.error:.2f} %, after epoch {best.epoch}")
    if options.save:
        title = f"{options.rule}, {options.paper or options.net}"
        save_picture(options.save, title, history)


if __name__ == "__main__":
    main()
