"""Show where a character model keeps what it knows, by patching its outputs.

The transformer of char_gpt.py learns the help on Python's topics. It then reads a clean and a
corrupted text, in which the quote is missing that the clean one opens. The metric is the score of
the closing quote minus that of a space. Attribution patching estimates, for every layer and every
position, how much the metric rises when the clean run's output is put into the corrupted run.
Printed are these effects by layer beside the exact ones, of one patched run each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from char_gpt import BATCH_SIZE, LENGTH, make_network, make_optimizer
from characters import load_text, random_windows
from options import picture_file, positive_int
from torch import Tensor

import lincoln_fn as lf
from lincoln_fn import attribution, plots
from lincoln_fn.inspect import outputs, patched
from lincoln_fn.walk.paths import paths

SHOWN = ("embedding", "positional_embedding", "residual", "multi_head_attention", "gelu")


def train(net: lf.Layer, text: Tensor, steps: int, key: lf.Key) -> lf.TrainState:
    """Train the network on random windows of the text."""
    optimizer = make_optimizer()
    state = lf.init_state(net, optimizer, key, text[None, :LENGTH])
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    windows = random_windows(text, BATCH_SIZE, LENGTH, steps, state.key)
    for state, _ in lf.streams.progress(lf.train(step, state, windows), total=steps):
        pass
    return state


def encoded(text: str, alphabet: str) -> Tensor:
    """Write a text as a batch of one row of codes."""
    missing = set(text) - set(alphabet)
    if missing:
        raise SystemExit(f"The model's text has no {', '.join(map(repr, sorted(missing)))}.")
    return torch.tensor([[alphabet.index(character) for character in text]])


def shown_paths(net: lf.Layer) -> dict[str, str]:
    """List the paths to show, with their labels."""
    named = {path: layer.name.partition("(")[0] for path, layer in paths(net)}
    return {path: f"{path} {name}" for path, name in named.items() if name in SHOWN}


def draw(effects: dict[str, Tensor], characters: str, picture: Path) -> None:
    """Save a picture with a row for each layer and a column for each character."""
    shown = [character if character != " " else "␣" for character in characters]
    axes = plots.effects(effects, columns=shown, label="effect on the metric")
    axes.set_title("Patching the clean run's outputs into the corrupted run")
    axes.figure.savefig(picture, dpi=120)


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
    parser.add_argument("--clean", default='use the "return', help="the clean text")
    parser.add_argument("--corrupted", default="use the  return", help="of the same length")
    parser.add_argument("--answer", default='"', help="the character that fits the clean text")
    parser.add_argument("--other", default=" ", help="the character that fits the corrupted text")
    parser.add_argument("--plot", type=picture_file, metavar="FILE.png", help="save the picture")
    options = parser.parse_args(arguments)
    if not len(options.clean) == len(options.corrupted) <= LENGTH:
        parser.error(f"expected two texts of one length, at most {LENGTH}")
    if not len(options.answer) == len(options.other) == 1:
        parser.error("expected one character for --answer, and one for --other")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, patch and draw."""
    options = parse_options(arguments)
    text = load_text()
    net = make_network(len(text.alphabet))
    params = train(net, text.train, options.steps, lf.Key(options.key)).params
    clean, corrupted = (encoded(t, text.alphabet) for t in (options.clean, options.corrupted))

    scores = net.predict(params, corrupted)
    weights = torch.zeros_like(scores)  # the metric is the sum of weights times scores
    weights[0, text.alphabet.index(options.answer), -1] = 1
    weights[0, text.alphabet.index(options.other), -1] -= 1
    before = (weights * scores).sum().item()
    after = (weights * net.predict(params, clean)).sum().item()
    print(f"metric: {after:.3f} in the clean run, {before:.3f} in the corrupted run\n")

    effects = attribution.attribution_patching(net, params, clean, corrupted, weights)
    clean_outputs = outputs(net, params, clean)
    print(f"{'layer':34}{'estimated':>10}{'exact':>10}")
    by_position = {}
    for path, label in shown_paths(net).items():
        by_position[label] = effects[path][0].sum(-1)
        run = patched(net, {path: clean_outputs[path]})
        exact = (weights * run.predict(params, corrupted)).sum().item() - before
        print(f"{label:34}{by_position[label].sum().item():10.3f}{exact:10.3f}")
    if options.plot:
        draw(by_position, options.clean, options.plot)


if __name__ == "__main__":
    main()
