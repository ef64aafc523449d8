"""Exported steps: a training step as a file that torch runs without this library."""

from __future__ import annotations

import json
from os import PathLike, fspath
from typing import Final

import torch

from lincoln_fn.compiler.trace.structures import flatten
from lincoln_fn.compiler.trace.tracing import trace
from lincoln_fn.core import tree
from lincoln_fn.errors.arguments import check_argument
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.errors.kinds import wrong_kind
from lincoln_fn.runtime.log import log_if_slow
from lincoln_fn.training.batch_checks import check_batch
from lincoln_fn.training.data import Batch
from lincoln_fn.training.step import Step
from lincoln_fn.training.train import TrainState

NAMES: Final = "names.json"


def export_step(step: Step, state: TrainState, batch: Batch, path: str | PathLike[str]) -> None:
    """Save a training step as a `torch.export` program, of flat lists of tensors.

    Its inputs are the tensors of the state and then those of the batch; its outputs are those of
    the new state, in the same order, and then the loss, which of `losses.weighted` has the values
    of its parts behind it. The file also holds these tensors' names,
    and the state and batch given as the example inputs. To train where this library is missing:

        import json, torch

        extra = {"names.json": ""}
        program = torch.export.load(path, extra_files=extra)
        names = json.loads(extra["names.json"])    # {"state": [...], "batch": [...]}
        step, (inputs, _) = program.module(), program.example_inputs
        state, batch = inputs[: len(names["state"])], inputs[len(names["state"]) :]
        for _ in range(3):
            *state, loss = step(*state, *batch)

    Every batch must have the shapes of this one. What the step checks of numbers, the program does
    not: its loss is nan for a label out of range, and a loss that is not finite raises no error.

    Args:
        step: from `make_step`, compiled or not.
        state: to start from.
        batch: (x, target), with shapes and dtypes like every batch to come.
        path: the file, whose name torch wants to end in ".pt2".

    Raises:
        LayerError: if an argument is not of its kind; as the step does on this batch, or if a part
            of it cannot be traced.

    Example:
        >>> import tempfile, lincoln_fn as lf
        >>> net, optimizer, x = lf.dense(1), lf.optim.sgd(0.1), torch.ones(4, 3)
        >>> step = lf.make_step(net, lf.losses.mse(), optimizer)
        >>> state = lf.init_state(net, optimizer, lf.Key(0), x)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_step(step, state, (x, torch.ones(4, 1)), f"{folder}/step.pt2")
    """
    if not isinstance(step, Step):
        raise wrong_kind("export_step", "step", step, "what make_step returns")
    check_argument("export_step", "state", TrainState, state)
    check_batch("export_step", batch)
    with log_if_slow("exporting the step"):
        _export(step, state, batch, path)


def _export(step: Step, state: TrainState, batch: Batch, path: str | PathLike[str]) -> None:
    traced = trace(step, state, batch, here=False)
    before = tree.paths(state, states=True)
    # The new state's structure, filled with anything at all.
    filled = traced.structure.unflatten(range(traced.structure.num_leaves))
    after = tree.paths(filled, states=True)
    if before != after:
        changed = sorted(set(before) ^ set(after))
        raise LayerError("step", f"expected a new state with the old one's tensors, got {changed}")
    leaves, _ = flatten((state, batch))
    program = torch.export.export(traced.graph, tuple(leaves))
    names = {"state": before, "batch": _name_inputs(batch)}
    torch.export.save(program, fspath(path), extra_files={NAMES: json.dumps(names)})


def _name_inputs(batch: Batch) -> list[str]:
    x, target = (tree.paths(part, states=True) for part in batch)
    named = [*(f"x.{path}" for path in x), *(f"target.{path}" for path in target)]
    return [name.removesuffix(".") for name in named]
