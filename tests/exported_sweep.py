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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import optree
import torch
from helpers.cases import CASES
from helpers.cases.case import normal
from helpers.compare import largest, same_number
from helpers.losses import TABLE

import lincoln_fn as lf
from lincoln_fn import optim, schedules

onnxruntime.set_default_logger_severity(4)
ERROR = 1e-5


def gain() -> lf.Layer:
    """Multiply all inputs by a trained number, in which a step shows dx, too."""

    def forward(s: Any, x: Any) -> Any:
        return lf.tree.map(lambda leaf: leaf * s if leaf.is_floating_point() else leaf, x), x

    def backward(s: Any, x: Any, g: Any) -> Any:
        pairs = zip(*(optree.tree_leaves(each, none_is_leaf=True) for each in (x, g)), strict=True)
        return g, sum(((a * b).sum() for a, b in pairs if b is not None), torch.zeros(()))

    return lf.Layer("gain()", forward, backward, lambda key, x: torch.ones(()))


def pull() -> lf.Loss:
    """Pull every number of y, of whatever shape, towards one of its own."""

    def aims(leaf: torch.Tensor) -> torch.Tensor:
        return leaf - torch.arange(leaf.numel()).reshape(leaf.shape).to(leaf.dtype).cos()

    def forward(y: Any, _: Any) -> Any:
        off = lf.tree.map(lambda leaf: aims(leaf) if leaf.is_floating_point() else leaf, y)
        squares = [d.square().sum() for d in lf.tree.leaves(off) if d.is_floating_point()]
        return sum(squares, torch.zeros(())).float() / 64, off

    def backward(off: Any, g: Any = 1.0) -> Any:
        return lf.tree.map(
            lambda d: g * d / 32 if d.is_floating_point() else torch.zeros_like(d), off
        )

    return lf.Loss("pull()", forward, backward)


def layers() -> Iterator[tuple[str, Any, Any, Any, Any]]:
    """Train the layers of the table of cases."""
    for case in CASES:
        net = lf.serial(gain(), case.layer)
        yield f"layer {case}", net, pull(), optim.sgd(0.1), (case.x, None)


X, Y = normal(5, 3), (normal(5, 3) > 0).float()
OTHERS = [  # losses without a row in the table of losses
    (
        lf.losses.ctc(), normal(5, 4, 3).log_softmax(-1),
        (torch.tensor([[1, 1], [2, 1], [2, 2], [1, 0]]), torch.full((4,), 5),
         torch.tensor([2, 2, 1, 0])),
    ),
    (lf.losses.example_weighted(lf.losses.mse()), X, (Y, torch.rand(5))),
    (lf.losses.log_loss(), X.sigmoid(), Y), (lf.losses.log_sigmoid_loss(), -X.abs(), Y),
    (lf.losses.router_balance(), X, None), (lf.losses.router_z(), X, None),
    (lf.losses.through(lf.tanh(), lf.losses.mse()), X, Y),
    (lf.losses.weighted({"a": (1.0, lf.losses.mse()), "b": (0.5, lf.losses.l1())}), (X, X), (Y, Y)),
]  # fmt: skip


def losses() -> Iterator[tuple[str, Any, Any, Any, Any]]:
    for row in TABLE:
        for reduction in ("mean", "sum"):
            batch = row.prediction, row.target
            yield f"loss {row}-{reduction}", gain(), row.loss(reduction), optim.sgd(0.01), batch
    for loss, prediction, target in OTHERS:
        yield f"loss {loss}", gain(), loss, optim.sgd(0.01), (prediction, target)


def of_matrices(optimizer: Any) -> Any:
    return optim.by_path({"*.bias": optim.sgd(0.1), "*": optimizer})


OPTIMIZERS = [
    optim.adadelta(), optim.adafactor(), optim.adagrad(), optim.adam(), optim.adam(amsgrad=True),
    optim.adamw(), optim.adamax(), optim.asgd(), optim.lamb(), optim.lion(),
    of_matrices(optim.muon()), of_matrices(optim.muon(dtype=torch.float32)), optim.nadam(),
    optim.radam(), optim.rmsprop(),
    optim.rmsprop(centered=True, momentum=0.5), optim.rprop(), optim.sgd(0.1),
    optim.sgd(0.1, momentum=0.9), optim.sgd(0.1, momentum=0.9, nesterov=True), optim.shampoo(),
    optim.soap(),
    *(
        optim.chain(transform, optim.sgd(0.1))
        for transform in (
            optim.accumulate(2), optim.clip_by_global_norm(0.1), optim.clip_by_value(0.1),
            optim.ema(0.9), optim.galore(2, every=2), optim.schedule_free(),
            optim.weight_decay(0.1),
        )
    ),
    optim.by_path({"*.bias": optim.sgd(0.1), "*": optim.adam()}),
    *(
        optim.sgd(schedule)
        for schedule in (
            schedules.constant(0.1), schedules.cosine(0.1, 9), schedules.exponential(0.1, 0.5),
            schedules.linear(0.0, 0.1, 2), schedules.polynomial(0.1, 9, 2.0),
            schedules.joined([schedules.constant(0.1), schedules.cosine(0.1, 3)], [1]),
        )
    ),
]  # fmt: skip


def optimizers() -> Iterator[tuple[str, Any, Any, Any, Any]]:
    """Train matrices and vectors."""
    net, batch = lf.serial(lf.dense(4), lf.tanh(), lf.dense(2)), (normal(6, 5), normal(6, 2))
    for optimizer in OPTIMIZERS:
        yield f"optimizer {optimizer}", net, lf.losses.mse(), optimizer, batch


SWEEPS = {"layers": layers, "losses": losses, "optimizers": optimizers}


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
