"""Exported steps: a file that torch alone runs, with the numbers of the eager step."""

import json
import subprocess
import sys

import pytest
import torch
from helpers import assert_says, begin, same_number
from helpers.compiling import T, X

import lincoln_fn as lf

# A bias before batch norm has no gradient but rounding, which adam would make steps of.
NET = lf.serial(
    lf.dense(4, bias=False), lf.batch_norm(), lf.dropout(0.3), lf.dense(3), lf.log_softmax()
)
ADAM = lf.optim.adam(lf.schedules.exponential(0.1, 0.5))
STEP, STATE = begin(NET, X, lf.losses.nll(), ADAM)

# What the docstring of `export_step` shows.
ALONE = """
import json, sys, torch

torch.set_num_threads(1)
extra = {"names.json": ""}
program = torch.export.load(sys.argv[1], extra_files=extra)
names = json.loads(extra["names.json"])
step, (inputs, _) = program.module(), program.example_inputs
state, batch = inputs[: len(names["state"])], inputs[len(names["state"]) :]
losses = []
for _ in range(3):
    *state, loss = step(*state, *batch)
    losses.append(loss)
assert "lincoln_fn" not in sys.modules
torch.save((names, state, losses), sys.argv[2])
"""


@pytest.mark.full
def test_three_steps_without_the_library_are_three_eager_steps(tmp_path):
    program, result = str(tmp_path / "step.pt2"), str(tmp_path / "result.pt")
    # A compiled step exports as the step that it is made of.
    lf.export_step(lf.compile(STEP), STATE, (X, T), program)
    arguments = [sys.executable, "-W", "error", "-c", ALONE, program, result]
    subprocess.run(arguments, check=True, timeout=120)
    names, leaves, losses = torch.load(result)
    state = STATE
    for loss in losses:
        state, value = STEP(state, (X, T))
        assert same_number(loss, value)
    assert names == {"state": lf.tree.paths(state, states=True), "batch": ["x", "target"]}
    assert {"params.0.weight", "opt_state.step", "key.bits", "step"} <= set(names["state"])
    assert same_number(leaves, lf.tree.leaves(state, states=True))


@pytest.mark.full
def test_the_tensors_of_a_batch_are_named(tmp_path):
    net, batch = lf.parallel(lf.dense(2), lf.dense(2)), ((X, X[:, :3]), torch.ones(6))
    step, state = begin(net, batch[0], lf.losses.cosine_embedding())
    lf.export_step(step, state, batch, tmp_path / "step.pt2")
    extra = {"names.json": ""}
    torch.export.load(tmp_path / "step.pt2", extra_files=extra)
    assert json.loads(extra["names.json"])["batch"] == ["x.0", "x.1", "target"]


def test_what_does_not_fit_is_refused(tmp_path):
    message = "^serial[0] dense(4, bias=False): expected x of shape"
    assert_says(message, lf.export_step, STEP, STATE, (X[:, :3], T), tmp_path / "step.pt2")
    growing = lf.optim.Optimizer("growing()", lambda p: (), lambda p, dp, s: (p, (*s, T)))
    step, state = begin(NET, X, lf.losses.nll(), growing)
    for name in ("step.pt2", "step.onnx"):
        message = "the old one's tensors, got ['opt_state.0']"
        assert_says(message, lf.export_step, step, state, (X, T), tmp_path / name)
