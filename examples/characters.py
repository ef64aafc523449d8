"""What the character models share: the text, batches, the bigram model, bits and samples.

The text is a file, or the help on Python's topics that comes with every Python,
`pydoc_data.topics`. Its first nine tenths are trained on, the last is held out.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

import torch
from options import positive_int
from torch import Tensor
from tqdm import tqdm

import lincoln_fn as lf


class Text(NamedTuple):
    """A text as codes of its characters: those to train on, those held out, and what they mean."""

    train: Tensor
    held_out: Tensor
    alphabet: str


def read_help() -> str:
    """Read the help on Python's topics."""
    return "\n".join(topics[name] for name in sorted(topics))


def load_text(path: Path | None = None) -> Text:
    """Read a file, or the help on Python's topics, character by character."""
    text = path.read_text(encoding="utf-8") if path else read_help()
    alphabet = "".join(sorted(set(text)))
    code_of = {character: code for code, character in enumerate(alphabet)}
    codes = torch.tensor([code_of[character] for character in text])
    split = len(codes) * 9 // 10
    return Text(codes[:split], codes[split:], alphabet)


def random_windows(
    codes: Tensor, batch_size: int, length: int, steps: int, key: lf.Key, *, start: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give batches of windows at random places; a window's target is the same, one further on."""
    for step in range(start, steps):
        places = lf.keys.uniform(key.fold_in(step), (batch_size, 1), dtype=torch.float64)
        starts = (places * (len(codes) - length)).long()
        windows = codes[starts + torch.arange(length + 1)]
        yield windows[:, :-1], windows[:, 1:]


def bigram_bits(text: Text) -> float:
    """Compute the bits per held-out character of the best guess from one character to the next."""
    size = len(text.alphabet)
    pairs = text.train[:-1] * size + text.train[1:]
    counts = torch.bincount(pairs, minlength=size * size).view(size, size) + 1.0
    probabilities = counts / counts.sum(1, keepdim=True)
    return -probabilities[text.held_out[:-1], text.held_out[1:]].log2().mean().item()


def bits_per_character(net: lf.Layer, params: object, codes: Tensor, length: int) -> float:
    """Compute a network's bits per character over windows that lie end to end."""
    rows = (len(codes) - 1) // length
    x = codes[: rows * length].view(rows, length)
    target = codes[1 : rows * length + 1].view(rows, length)
    nats = lf.evaluate(net, params, lf.data.batches((x, target), 64), {"nats": mean_cross_entropy})
    return nats["nats"] / math.log(2)


def mean_cross_entropy(logits: Tensor, target: Tensor) -> float:
    """Compute the loss as a metric."""
    return lf.losses.softmax_cross_entropy().forward(logits, target)[0].item()


def sample(net: lf.Layer, params: object, text: Text, length: int, count: int, key: lf.Key) -> str:
    """Let a network write. It knows texts of `length`: after these it goes on from their half."""
    decoder, codes, half = lf.decode(net), text.held_out[:length], length // 2
    while len(codes) < length + count:
        prompt, piece = codes[None, -half:], key.fold_in(len(codes))
        stream = lf.generate(decoder, params, prompt, key=piece, max_new_tokens=half)
        codes = torch.cat([codes, *(token for _, token in stream)])
    return "".join(text.alphabet[code] for code in codes[length : length + count].tolist())


def parse_options(
    description: str | None, arguments: Sequence[str] | None, *, time_taken: str, steps: int = 1000
) -> argparse.Namespace:
    """Read the command line, or for --help say what a default run does and how long it takes."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"A default run takes about {time_taken} on two cores.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--key", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument(
        "--steps", type=positive_int, default=steps, help=f"training steps (default: {steps})"
    )
    parser.add_argument(
        "--sample", type=int, default=300, help="characters to write (default: 300)"
    )
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="what to learn (default: Python's help texts)"
    )
    parser.add_argument("--compile", action="store_true", help="compile the training step")
    return parser.parse_args(arguments)


def run(
    make_network: Callable[[int], lf.Layer],
    optimizer: lf.Optimizer,
    batch_size: int,
    length: int,
    options: argparse.Namespace,
) -> None:
    """Train a network on windows of the text, and print its bits beside the bigram model's."""
    text = load_text(options.text)
    net = make_network(len(text.alphabet))
    state = lf.init_state(net, optimizer, lf.Key(options.key), text.train[None, :length])
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    step = lf.compile(step) if options.compile else step
    windows = random_windows(text.train, batch_size, length, options.steps, state.key)
    parameters = sum(leaf.numel() for leaf in lf.tree.leaves(state.params))
    print(f"{len(text.train):,} characters to train on, {parameters:,} parameters", flush=True)

    began = time.perf_counter()
    losses: list[float] = []
    steps = lf.train(step, state, windows)
    for state, record in lf.streams.progress(steps, total=options.steps):
        losses.append(record.loss)
        if record.step % 100 == 0 or record.step == options.steps:
            bits = sum(losses) / len(losses) / math.log(2)
            seconds = time.perf_counter() - began
            # Above the bar.
            tqdm.write(f"step {record.step:5}  {bits:.3f} bits per character  {seconds:5.1f} s")
            losses.clear()

    ours = bits_per_character(net, state.params, text.held_out, length)
    print(f"\nHeld out: {ours:.3f} bits per character; the bigram model {bigram_bits(text):.3f}.")
    if options.sample:
        written = sample(net, state.params, text, length, options.sample, lf.Key(options.key))
        print(f"\nA sample:\n{written}")
