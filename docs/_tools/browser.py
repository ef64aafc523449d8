"""Make what the page "Train in your browser" loads: digits, exported steps and ONNX Runtime.

The runtime comes from npm: `packed`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import packed
import torch
from torch import Tensor

import lincoln_fn as lf
from lincoln_fn import rules

CODE: Final = re.compile(r"^<!-- code: (.+) -->$", flags=re.MULTILINE)
RULES: Final = {
    "bp": lambda net: net,
    "fa": rules.feedback_alignment,
    "dfa": rules.direct_feedback_alignment,
}
WIDTHS: Final = 16, 32, 64
BATCH: Final = 32
LOSS: Final = lf.losses.softmax_cross_entropy()

# The last release whose WebAssembly has less than 12 MB. Its license is in assets/LICENSES.txt.
VERSION: Final = "1.22.0"
SHA512: Final = (
    "51dffe101a3a9a1b9a416b7f3a368e93488d5a35ea26879e305afac501044597"
    "48647d8e5a91b3bae8f3ee57ee3818d46ba4c413fb1ce276fb0dae5d34bdf87e"
)
RUNTIME: Final = {
    "runtime": "package/dist/ort.wasm.min.js",
    "runtime.module": "package/dist/ort-wasm-simd-threaded.mjs",
    "runtime.wasm": "package/dist/ort-wasm-simd-threaded.wasm",
}


@lf.record
class Watched:
    """The learning rate, which the page sets, and the last step's gradients, which it shows."""

    learning_rate: Tensor
    gradients: tuple[Tensor, ...]


def sgd(lr: float = 0.3) -> lf.Optimizer:
    """Make SGD whose state holds the learning rate and the gradients, so that both are exported."""

    def init(params: lf.Params) -> Watched:
        zeros = map(torch.zeros_like, lf.tree.leaves(params))
        return Watched(torch.tensor(lr), tuple(zeros))

    def update(params: lf.Params, grads: lf.Params, state: Watched) -> tuple[lf.Params, Watched]:
        moved = lf.tree.map(lambda p, dp: p - state.learning_rate * dp, params, grads)
        return moved, Watched(state.learning_rate, tuple(lf.tree.leaves(grads)))

    return lf.Optimizer("sgd()", init, update)


def network(rule: str, width: int) -> lf.Layer:
    """Make the network of 64-width-width-10 units, with a rule for its backward pass."""
    hidden = (lf.dense(width), lf.tanh())
    return RULES[rule](lf.serial(*hidden, *hidden, lf.dense(10)))


def digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits in a random order: 1,797 images, from 0 to 16, and labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = lf.keys.permutation(lf.Key(0), len(labels))
    return torch.tensor(images, dtype=torch.float32)[order], torch.tensor(labels)[order]


def start(rule: str, width: int) -> tuple[lf.Step, lf.TrainState]:
    """Make the step that is exported, and the state from which it starts."""
    net, optimizer = network(rule, width), sgd()
    state = lf.init_state(net, optimizer, lf.Key(1), torch.zeros(BATCH, 64))
    return lf.make_step(net, LOSS, optimizer), state


def files() -> Iterator[tuple[str, bytes]]:
    """Give the digits and, by rule and width, each exported step, its state and the prediction."""
    images, labels = digits()
    yield "digits", bytes(images.flatten().byte().tolist() + labels.tolist())
    x, target = images[:BATCH] / 16, labels[:BATCH]
    with TemporaryDirectory() as made:
        model, values = Path(made, "model.onnx"), Path(made, "values.onnx")
        for width in WIDTHS:
            for rule in RULES:
                step, state = start(rule, width)
                lf.export_step(step, state, (x, target), model, defaults=values)
                yield f"{rule}-{width}.step", model.read_bytes()
                yield f"{rule}-{width}.state", values.read_bytes()
            net = lf.serial(*network("bp", width).parts, lf.softmax())
            lf.export(net, net.init(lf.Key(0), x), x, model, defaults=values)
            yield f"predict-{width}", model.read_bytes()


def runtime() -> Iterator[tuple[str, bytes]]:
    """Give the files of ONNX Runtime for the web; none without npm or network."""
    found = packed.from_npm("onnxruntime-web", VERSION, SHA512, list(RUNTIME.values()))
    return zip(RUNTIME, found, strict=False)


on_files = packed.hook("training", lambda: [*files(), *runtime()])


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Show functions and classes of this file in the page.

    Args:
        markdown: a page.

    Returns:
        The page, with code in the place of the comments that name it.
    """

    def listing(found: re.Match[str]) -> str:
        sources = [inspect.getsource(globals()[name]) for name in found[1].split()]
        return "```py\n" + "\n\n".join(sources) + "```"

    return CODE.sub(listing, markdown)
