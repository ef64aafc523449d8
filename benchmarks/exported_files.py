"""An exported step as files that any runtime reads, and what takes it here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

import lincoln_fn as lf
from benchmarks.exported_networks import NETWORKS

COMPARED: Final = (1, 10, 100)  # steps
# Takes so many steps, and returns the params.
Take = Callable[[int], list[NDArray[Any]]]  # Any: floats, or the key's bits


class Files:
    """A network's step, its state and a batch, as files that any runtime reads."""

    def __init__(self, name: str, folder: Path) -> None:
        self.training = training = NETWORKS[name]()
        self.path, self.values = folder / f"{name}.step.onnx", folder / f"{name}.state.onnx"
        is_common = len({len(leaf) for leaf in lf.tree.leaves(training.batch)}) == 1
        lf.export_step(
            training.step, training.state, training.batch, self.path,
            dynamic_batch=is_common, defaults=self.values,
        )  # fmt: skip
        self.state_names = lf.tree.paths(training.state, states=True)
        self.compared = [
            i
            for i, name in enumerate(self.state_names)
            if name.startswith("params.") or name == "key.bits"
        ]
        self.batch = {
            f"{side}.{path}".removesuffix("."): leaf.numpy()
            for side, tree in zip(("x", "target"), training.batch, strict=True)
            for path, leaf in zip(lf.tree.paths(tree), lf.tree.leaves(tree), strict=True)
        }

    def write(self, folder: Path, name: str, expected: Sequence[Sequence[NDArray[Any]]]) -> None:
        """Write the batch and what is expected for JavaScript."""
        described = {
            "batch": {
                key: {"type": str(of.dtype), "shape": of.shape, "numbers": of.flatten().tolist()}
                for key, of in self.batch.items()
            },
            "compared": [self.state_names[i] for i in self.compared],
            "steps": COMPARED,
        }
        (folder / f"{name}.json").write_text(json.dumps(described))
        numbers = [leaf.astype(np.float64).flatten() for state in expected for leaf in state]
        np.concatenate(numbers).tofile(folder / f"{name}.expected")

    def here(self, step: lf.Step) -> Take:
        """Give what takes steps in Python."""
        state = self.training.state

        def take(count: int) -> list[NDArray[Any]]:
            nonlocal state
            for _ in range(count):
                state, loss = step(state, self.training.batch)
                loss.item()
            leaves = lf.tree.leaves(state, states=True)
            return [leaves[i].numpy() for i in self.compared]

        return take

    def exported(self) -> Take:
        """Give what takes steps in onnxruntime."""
        session, values = _open(self.path), _open(self.values)
        state = values.run(None, {})

        def take(count: int) -> list[NDArray[Any]]:
            nonlocal state
            for _ in range(count):
                given = dict(zip(self.state_names, state, strict=True))
                *state, _ = session.run(None, {**given, **self.batch})
            return [state[i] for i in self.compared]

        return take

    def convolutions(self) -> Take | None:
        """Give what computes the step's convolutions alone, there and back, in onnxruntime."""
        model = onnx.load(self.path)
        nodes = [node for node in model.graph.node if node.op_type.startswith("Conv")]
        if not nodes:
            return None
        read = list(dict.fromkeys(name for node in nodes for name in node.input))
        given = {node.name for node in model.graph.input}
        made = [onnx.helper.make_empty_tensor_value_info(name) for name in {*read} - given]
        outputs = list(model.graph.output)
        model.graph.output.extend(made)
        values = dict(zip(self.state_names, _open(self.values).run(None, {}), strict=True))
        feeds = {**values, **self.batch}
        names = [*(node.name for node in outputs), *(value.name for value in made)]
        found = {**feeds, **dict(zip(names, _open(model).run(None, feeds), strict=True))}
        float32 = onnx.TensorProto.FLOAT
        ends = [onnx.helper.make_empty_tensor_value_info(node.output[0]) for node in nodes]
        inputs = [onnx.helper.make_tensor_value_info(n, float32, found[n].shape) for n in read]
        graph = onnx.helper.make_graph(nodes, "convolutions", inputs, ends)
        alone = _open(
            onnx.helper.make_model(
                graph, opset_imports=model.opset_import, ir_version=model.ir_version
            )
        )
        arrays = {name: found[name] for name in read}

        def take(count: int) -> list[NDArray[Any]]:
            for _ in range(count):
                alone.run(None, arrays)
            return []

        return take


def _open(model: Path | onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    given = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
