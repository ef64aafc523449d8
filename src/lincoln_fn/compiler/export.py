"""Exported steps and predictions: files that torch or onnxruntime runs without this library."""

from __future__ import annotations

import json
from os import PathLike, fspath
from pathlib import PurePath
from typing import Final

import attrs
import torch

from lincoln_fn import core
from lincoln_fn.compiler.compile import of_function, of_prediction
from lincoln_fn.compiler.onnx.program import Names, model_of, split
from lincoln_fn.compiler.tracing import Program, guard, of_step, write_down
from lincoln_fn.core import Arrays, Layer, LayerError, Params, check_argument, tree, wrong_kind
from lincoln_fn.fastpath import rearrange, with_indices
from lincoln_fn.recording import flatten
from lincoln_fn.runtime import log_if_slow
from lincoln_fn.training import Batch, Step, TrainState, check_batch, make_step

NAMES: Final = "names.json"


def export_step(
    step: Step,
    state: TrainState,
    batch: Batch,
    path: str | PathLike[str],
    *,
    dynamic_batch: bool | None = None,
    defaults: str | PathLike[str] | None = None,
) -> None:
    """Save a training step as a file that trains where this library is missing.

    **A path that ends in `.onnx`** gets an ONNX model, for onnxruntime in any language or browser.
    Its inputs are the tensors of the state and of the batch, by their names, such as
    `params.0.weight`, `x` and `target`. The tensors of the given state are the defaults of these
    inputs. The outputs are the new state's tensors, `next.params.0.weight` and so on, and `loss`,
    which of `losses.weighted` has the values of its parts behind it. It needs the package `onnx`.

    **A path that ends in `.pt2`** gets a `torch.export` program, of flat lists of tensors. Its
    inputs are the tensors of the state and then those of the batch; its outputs are those of the
    new state, in the same order, and then the loss, as above. The file `names.json` in it has these
    tensors' names, {"state": [...], "batch": [...]}; its example inputs are the state and batch.

    The guide "Compile and export" trains with both. What the step checks of numbers, the file does
    not: in a `.pt2` program, the loss is nan for a label out of range, and onnxruntime raises an
    error of its own. A loss that is not finite raises none.

    Args:
        step: from `make_step`, compiled or not.
        batch: (x, target), with shapes and dtypes like every batch to come.
        dynamic_batch: whether later batches may have other numbers of examples, which lie along the
            first axis of each tensor. None for what the format can: an ONNX model takes any number,
            and a `torch.export` program takes batches of this shape alone.
        defaults: a second ONNX file, whose outputs are the state's tensors by their names. The
            step's inputs then have no defaults, as JavaScript and Java need it: onnxruntime
            replaces none there.

    Raises:
        LayerError: if an argument is not of its kind; as the step does on this batch, or if a part
            of it cannot be traced, or has no counterpart in ONNX.

    Example:
        >>> import tempfile
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
    file = _File("export_step", path, dynamic_batch, defaults)
    with log_if_slow("exporting the step"):
        program, (x, target) = of_step(step), batch
        before = tree.paths(state, states=True)
        new, _ = program.plain(state, batch)
        if tree.paths(new, states=True) != before:
            changed = sorted(set(before) ^ set(tree.paths(new, states=True)))
            raise core.unexpected("step", "a new state with the old one's tensors", changed)
        outputs = [*(f"next.{name}" for name in before), "loss"]
        names = Names(before, [*_name("x", x), *_name("target", target)], outputs)
        if file.is_onnx:
            # Of formulas, whose operations ONNX has.
            own = {
                name: getattr(step, name) for name in ("loss", "optimizer", "gradient", "reduce")
            }
            formulas = make_step(_in_operations(step.net), **own, fast=False)
            file.save_onnx(of_step(formulas), (state, batch), names)
        else:
            file.save_torch(program, (state, batch), state=before, batch=names.batch)


def export(
    net: Layer,
    params: Params,
    x: Arrays,
    path: str | PathLike[str],
    *,
    dynamic_batch: bool | None = None,
    defaults: str | PathLike[str] | None = None,
) -> None:
    """Save a prediction, `net.predict(params, x)`, as a file for where this library is missing.

    A path that ends in `.onnx` gets an ONNX model. Its inputs are `x` and, with defaults, the
    tensors of params by their names, such as `params.0.weight`; its output is `y`. It needs the
    package `onnx`. A path that ends in `.pt2` gets a `torch.export` program of the flat tensors of
    params and x, whose names it holds as `export_step`'s does.

    `lf.inference` makes a network of fewer layers first, where batch norm follows others.

    Args:
        dynamic_batch: as in `export_step`.
        defaults: a second ONNX file, which gets params, as in `export_step`.

    Raises:
        LayerError: as `export_step` does, or if defaults is for a network without params.

    Example:
        >>> import tempfile
        >>> net, x = lf.serial(lf.dense(4), lf.relu()), torch.ones(2, 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export(net, net.init(lf.Key(0), x), x, f"{folder}/predict.pt2")
    """
    check_argument("export", "net", Layer, net, ("net", "params", "x", "path"))
    file = _File("export", path, dynamic_batch, defaults)
    with log_if_slow("exporting the prediction"):
        program, outputs = of_prediction(net), _name("y", net.predict(params, x))
        names = Names(_name("params", params), _name("x", x), outputs)
        if file.is_onnx:
            program = attrs.evolve(program, pure=of_function(_in_operations(net).predict).pure)
            file.save_onnx(program, (params, x), names)
        else:
            file.save_torch(program, (params, x), params=names.first, x=names.batch)


def _in_operations(net: Layer) -> Layer:
    """Let max-pooling be one operation, as ONNX has it, before the ReLU and not behind it."""
    return core.map_layers(with_indices, rearrange(net))


@attrs.frozen
class _File:
    """Where a program is saved, in the format that the path's end names."""

    function: str  # which users call
    path: str | PathLike[str]
    dynamic_batch: bool | None
    defaults: str | PathLike[str] | None

    @property
    def is_onnx(self) -> bool:
        return PurePath(self.path).suffix == ".onnx"

    def __attrs_post_init__(self) -> None:
        function, path, defaults = self.function, self.path, self.defaults
        if not isinstance(path, str | PathLike):
            order = (
                "(net, params, x, path)" if function == "export" else "(step, state, batch, path)"
            )
            raise wrong_kind(function, "path", path, "a file's path", order)
        if PurePath(path).suffix not in (".onnx", ".pt2"):
            raise core.unexpected(function, "a path that ends in .onnx or .pt2", fspath(path))
        if self.dynamic_batch and not self.is_onnx:
            problem = (
                "expected dynamic_batch=False for a .pt2 program, whose batches have one shape"
            )
            raise LayerError(function, f"{problem}; give a path that ends in .onnx")
        if defaults is not None:
            if not isinstance(defaults, str | PathLike):
                raise wrong_kind(function, "defaults", defaults, "a file's path or None")
            two = PurePath(path), PurePath(defaults)
            if two[0] == two[1] or any(each.suffix != ".onnx" for each in two):
                raise core.unexpected(
                    function, "two paths that end in .onnx", f"{two[0]} and {two[1]}"
                )

    def save_onnx(self, program: Program, trees: tuple[Arrays, Arrays], names: Names) -> None:
        """Save a model, and its defaults apart if they have a file of their own."""
        try:
            import onnx
        except ModuleNotFoundError:
            problem = "needs the package onnx for a path that ends in .onnx; pip install onnx"
            raise LayerError(program.name, problem) from None
        model = model_of(program, *trees, names, dynamic_batch=self.dynamic_batch is not False)
        if self.defaults is not None:
            if not names.first:  # ONNX Runtime opens no model without outputs
                expected = "params for the file of defaults"
                raise core.unexpected(program.name, expected, "none", "write defaults=None")
            model, values = split(model, names.first)
            onnx.save(values, fspath(self.defaults))
        onnx.save(model, fspath(self.path))

    def save_torch(
        self, program: Program, trees: tuple[Arrays, Arrays], **names: list[str]
    ) -> None:
        traced = guard(program, write_down(program, *trees, here=False))
        exported = torch.export.export(traced.graph, tuple(flatten(trees)[0]))
        torch.export.save(exported, fspath(self.path), extra_files={NAMES: json.dumps(names)})


def _name(prefix: str, arrays: Arrays) -> list[str]:
    paths = tree.paths(arrays, states=True)
    return [f"{prefix}.{path}".removesuffix(".") for path in paths]
