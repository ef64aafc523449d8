"""Exported steps of every layer, loss and optimizer, beside eager ones: by hand, in six minutes.

    PYTHONPATH=src:tests python tests/exported_sweep.py [PATTERN]

A step is right if onnxruntime computes the new state and the loss of the eager step, up to rounding
of float32; refused if `lf.export_step` or onnxruntime raises; otherwise it is wrong. Where the file
takes any number of examples, a second step has one more.
"""

from __future__ import annotations

import collections
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from helpers.compare import largest, same_number
from helpers.sweep import SWEEPS

import lincoln_fn as lf

onnxruntime.set_default_logger_severity(4)
ERROR = 1e-5


def step_both_ways(net: Any, loss: Any, optimizer: Any, batch: Any, folder: Path) -> str:
    """Take steps here and there, and say how they went."""
    step, path = lf.make_step(net, loss, optimizer), str(folder / "step.onnx")
    state = lf.init_state(net, optimizer, lf.Key(0), batch[0])
    for dynamic in (True, False):
        try:
            lf.export_step(step, state, batch, path, dynamic_batch=dynamic)
        except lf.LayerError as error:
            if not dynamic:
                return f"refused: {error}"
            why = f"{error}"
        else:
            break
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(path, options)
        found: dict[str, Any] = {}
        for given in [batch, more(batch)] if dynamic else [batch]:
            try:
                before, (state, value) = leaves(state), step.with_parts(state, given)
            except (lf.LayerError, RuntimeError):
                break  # the layer takes no other numbers of examples
            feeds = {**found, **named("x", given[0]), **named("target", given[1])}
            nodes = *session.get_inputs(), *session.get_overridable_initializers()
            read = {node.name for node in nodes}
            feeds = {name: leaf for name, leaf in feeds.items() if name in read}
            made = session.run(None, feeds)
            if isinstance(value, dict):  # the loss, and its parts behind it
                value = torch.stack(list(value.values()))
            pairs = zip([*leaves(state), value], made, [*before, value], strict=True)
            for leaf, theirs, old in pairs:
                terms = largest([leaf, old])  # a step may take a param to near 0
                close = same_number(torch.as_tensor(theirs), leaf, error=ERROR, terms=terms)
                if not close:
                    return f"wrong: {close}"
            found = dict(zip(lf.tree.paths(state, states=True), made, strict=False))
    except Exception as error:
        return f"refused by onnxruntime: {error}"
    return "right, any batch" if dynamic else f"right, one batch: {why}"


def leaves(arrays: Any) -> list[torch.Tensor]:
    return lf.tree.leaves(arrays, states=True)


def named(prefix: str, arrays: Any) -> dict[str, Any]:
    paths = lf.tree.paths(arrays, states=True)
    names = [f"{prefix}.{path}".removesuffix(".") for path in paths]
    return {name: leaf.numpy() for name, leaf in zip(names, leaves(arrays), strict=True)}


def more(batch: Any) -> Any:
    """Give a batch of one example more, which it has already."""

    def longer(leaf: torch.Tensor) -> torch.Tensor:
        return leaf[torch.arange(len(leaf) + 1) % len(leaf)]

    return lf.tree.map(longer, batch, states=True)


def main() -> None:
    torch.set_num_threads(1)
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    with tempfile.TemporaryDirectory() as folder:
        for kind, sweep in SWEEPS.items():
            counts: collections.Counter[str] = collections.Counter()
            for name, *given in sweep():
                if re.search(wanted, name):
                    try:
                        result = step_both_ways(*given, Path(folder))
                    except Exception as error:
                        result = f"failed: {type(error).__name__}: {error}"
                    counts[result.split(":")[0]] += 1
                    if result != "right, any batch":
                        print(f"{name}: {result}", flush=True)
            print(kind, dict(counts), flush=True)


if __name__ == "__main__":
    main()
