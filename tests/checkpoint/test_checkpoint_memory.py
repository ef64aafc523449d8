"""How much memory a save and a load take beside the state, and how often they call a function."""

import sys
from itertools import product as pairs
from pathlib import Path

import pytest
import torch
from helpers.children import printed_by_children

from lincoln_fn import checkpoint

pytestmark = pytest.mark.full

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


# In MB. A table of Python's own that grows while a file is loaded takes 4 of them.
LAYOUTS, ACTS = ("plain", "permuted"), {"save": 1.1 * 16, "load": 64 + 8}


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """Measure the peak of each act with each layout."""
    runs = list(pairs(LAYOUTS, ACTS))
    folder = tmp_path_factory.mktemp("peaks")
    told = printed_by_children([(PROGRAM, f"{folder}/{'-'.join(run)}", *run) for run in runs])
    return dict(zip(runs, map(float, told), strict=True))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells of its peaks")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("act", ACTS)
def test_the_peak(act, layout, peaks):
    assert peaks[layout, act] <= ACTS[act]


def calls_of(function, *arguments):
    """Count the calls of functions, Python's and C's, that a call makes."""
    calls = []
    sys.setprofile(lambda frame, event, _: calls.append(event) if "call" in event else None)
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
    return len(calls)


@pytest.mark.parametrize("act", ACTS)
def test_the_work_is_linear_in_the_number_of_leaves(act, tmp_path):
    counts = []
    for leaves in (50, 500):
        state, file = tuple(torch.ones(leaves, 1)), tmp_path / str(leaves)
        checkpoint.save(file, state)
        counts.append(calls_of(getattr(checkpoint, act), file, state))
    assert counts[1] < 11 * counts[0]
