"""How much memory a save and a load take beside the state, in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

# A state of 64 MiB, whose largest tensor has 16; how far the peak is above what was there before.
PROGRAM = """
import sys, torch
from pathlib import Path
from lincoln_fn.checkpoint import load, save

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

def made(number):
    tensor = torch.full((4, size // 4), number)
    return tensor.T if sys.argv[2] == "permuted" else tensor

torch.set_num_threads(1)
path, size = sys.argv[1], 2**22
small = {"a": torch.ones(3), "b": torch.ones(5, 2).T}
save(path, small, score=1.0)
load(path, small)  # all that is imported or set up at first
state = {str(i): made(float(i)) for i in range(4)}
like = {name: tensor.to("meta") for name, tensor in state.items()}
if sys.argv[3] == "load":
    save(path, state)
    del state
Path("/proc/self/clear_refs").write_text("5")  # the peak is to be that from here on
before = status("VmRSS")
result = load(path, like) if sys.argv[3] == "load" else save(path, state)
print((status("VmHWM") - before) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells of its peaks")
@pytest.mark.parametrize("layout", ["plain", "permuted"])
@pytest.mark.parametrize(("act", "most"), [("save", 1.1 * 16), ("load", 64 + 4)])
def test_the_peak(act, most, layout, tmp_path):
    command = [sys.executable, "-c", PROGRAM, tmp_path / "file", layout, act]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) <= most
