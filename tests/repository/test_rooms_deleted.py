"""A room below the line can be deleted, with its lines in the root's face: the rest still works."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_rooms import BELOW

import lincoln_fn

LIBRARY = Path(lincoln_fn.__file__).parent
# Training and a check. Not by name are the rooms that one of them is not made without.
USE = """
import warnings
import lincoln_fn as lf

assert lf.__file__.startswith(FOLDER)
x, target = lf.keys.normal(lf.Key(0), (8, 3)), torch.arange(8) % 2
net = lf.serial(lf.dense(5), lf.batch_norm(), lf.relu(), lf.residual(lf.dense(5)), lf.dense(2))
optimizer, loss = lf.optim.adamw(0.01), lf.losses.softmax_cross_entropy()
step = lf.make_step(net, loss, optimizer)
state = lf.init_state(net, optimizer, lf.Key(1), x)
first = None
for _ in range(5):
    state, value = step(state, (x, target))
    first = value if first is None else first
assert value < first, (first, value)
lf.testing.check_layer(lf.gru(4), lf.gru(4).init(lf.Key(2), x[None]), x[None])
assert "dense" in net._repr_html_()
assert not hasattr(lf, ROOM)
for name in lf.__all__:
    try:
        getattr(lf, name)
    except ModuleNotFoundError as error:  # of a room below that takes something from this one
        assert f"lincoln_fn.{ROOM}" in str(error), error
"""
# Each room has a copy of a process that has imported torch alone, for itself.
EACH = """
import json, os, sys, traceback
import torch

for room, folder in json.loads(sys.argv[1]).items():
    child = os.fork()
    if not child:
        sys.path.insert(0, folder)
        try:
            exec(sys.argv[2], {"torch": torch, "ROOM": room, "FOLDER": folder})
        except BaseException:
            print(f"without {room}: {traceback.format_exc()}", flush=True)
        os._exit(0)
    if status := os.waitpid(child, 0)[1]:
        print(f"without {room}: the process ends with {status}", flush=True)
"""


def without(room, folder):
    """Copy the library, compiled as it is, without a room and its names in the root's face."""
    copy = folder / "lincoln_fn"
    shutil.copytree(LIBRARY, copy)
    shutil.rmtree(copy / room)
    for face in copy.rglob("*.pyi"):
        tree = ast.parse(face.read_text())
        tree.body = [line for line in tree.body if not is_of(line, room)]
        for line in tree.body:
            if getattr(line, "module", None) == "lincoln_fn":
                line.names = [name for name in line.names if name.name != room]
        face.write_text(ast.unparse(tree))


def is_of(line, room):
    return f"{getattr(line, 'module', None)}.".startswith(f"lincoln_fn.{room}.")


@pytest.mark.full
@pytest.mark.parametrize("rooms", [BELOW[::2], BELOW[1::2]], ids=" ".join)
def test_a_network_learns_and_is_checked_without_a_room(rooms, tmp_path):
    folders = {room: str(tmp_path / room) for room in rooms}
    for room in rooms:
        without(room, tmp_path / room)
    code = [sys.executable, "-W", "error", "-c", EACH, json.dumps(folders), USE]
    ran = subprocess.run(code, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
