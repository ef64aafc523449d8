"""What the process does with freed memory, seen in the pages that it asks the system for."""

from __future__ import annotations

import ctypes
import gc
from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
from helpers import begin
from helpers.children import printed_by_children

import lincoln_fn as lf

pytestmark = pytest.mark.full

# Ten times, four pieces of so many MiB are written to and freed; the pages asked for are counted.
PROGRAM = """
import resource, sys, torch
import lincoln_fn as lf

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use():
    pieces = [torch.ones(int(sys.argv[1]) * 2**18) for _ in range(4)]

# The tensors' own records go where these were: one that lay above a piece would keep it in use.
small = [torch.ones(4) for _ in range(64)]
del small
if len(sys.argv) > 2:
    assert lf.keep_freed_memory(int(sys.argv[2]) * 2**20)
for _ in range(3):
    use()
before = pages()
for _ in range(10):
    use()
print(pages() - before)
"""

# The flags of the mapping that new memory comes from, where the system tells them.
FLAGS = """
import torch, lincoln_fn as lf
from pathlib import Path

smaps = Path("/proc/self/smaps")
if smaps.exists() and "VmFlags" in smaps.read_text():
    assert lf.keep_freed_memory(2**26)
    place = torch.empty(2**22).data_ptr() + 2**20
    for line in smaps.read_text().splitlines():
        word = line.split()[0]
        if "-" in word:
            begin, end = (int(side, 16) for side in word.split("-"))
        elif word == "VmFlags:" and begin <= place < end:
            print(*line.split()[1:])
"""

# A process that may not have as much as it wants to keep goes on as before.
LIMITED = """
import mmap, resource, torch
import lincoln_fn as lf

pages = int(open("/proc/self/statm").read().split()[0])
_, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * mmap.PAGESIZE + 2**29, hard))
print(lf.keep_freed_memory(), torch.ones(2**24).sum().item())
"""

has_mallopt = hasattr(ctypes.pythonapi, "mallopt")


@pytest.fixture(scope="module")
def printed() -> dict[tuple[str, ...], str]:
    """Give what each program prints, by its code and arguments."""
    sizes = [(size, *kept) for size, kept in product(("16", "40"), ([], ["1024"]))]
    runs = [(PROGRAM, *size) for size in (*sizes, ("40", "80"))] + [(FLAGS,), (LIMITED,)]
    return dict(zip(runs, printed_by_children(runs), strict=True))


@pytest.mark.skipif(not has_mallopt, reason="the C library has no such setting")
@pytest.mark.parametrize("size", ["16", "40"], ids="{} MiB".format)
def test_kept_memory_is_not_asked_for_again(size, printed):
    # By a factor, for a system may hand out pages of two sizes.
    assert 10 * int(printed[PROGRAM, size, "1024"]) < int(printed[PROGRAM, size])


@pytest.mark.skipif(not has_mallopt, reason="the C library has no such setting")
def test_beyond_what_is_kept_the_rest_is_handed_back(printed):
    kept, usual = int(printed[PROGRAM, "40", "80"]), int(printed[PROGRAM, "40"])
    assert 0.2 * usual < kept < 0.8 * usual


@pytest.mark.skipif(not has_mallopt, reason="the C library has no such setting")
@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the system has no large pages"
)
def test_kept_memory_lies_in_large_pages(printed):
    flags = printed[FLAGS,].split()
    if not flags:
        pytest.skip("the system does not tell how memory lies")
    assert "hg" in flags


@pytest.mark.skipif(not has_mallopt, reason="the C library has no such setting")
def test_more_than_the_process_may_have_is_not_kept(printed):
    assert printed[LIMITED,].split() == ["False", str(2.0**24)]


@pytest.mark.parametrize("given", [-1, 2**31, 1e6, "1", None])
def test_an_amount_that_does_not_fit_is_refused_before_a_setting_is_changed(given, monkeypatch):
    monkeypatch.setattr(ctypes, "pythonapi", None)
    problem = rf"^keep_freed_memory: expected a whole number, .* bytes, got {given!r};"
    with pytest.raises(ValueError, match=problem):
        lf.keep_freed_memory(given)


def test_a_c_library_without_the_setting_is_told_of(monkeypatch):
    monkeypatch.setattr(ctypes, "pythonapi", object())
    assert lf.keep_freed_memory() is False


# A process that goes on making and taking steps keeps nothing of those before.


X, TARGET = lf.keys.normal(lf.Key(0), (4, 6)), torch.zeros(4, 3)


def make(i, *, donate):
    """Make a step like no other, and its first state."""
    net = lf.serial(
        lf.dense(5), lf.batch_norm(), lf.dropout(0.1 + i / 1000), lf.elu(1 + i / 1000), lf.dense(3)
    )
    optimizer = lf.optim.chain(lf.optim.clip_by_global_norm(1.0 + i), lf.optim.adamw(1e-3))
    return begin(net, X, lf.losses.mse(), optimizer, key=i, donate=donate)


def live():
    """Count the objects that are alive, by their types."""
    gc.collect()
    return Counter(type(each) for each in gc.get_objects())


def grown(use, times):
    """Tell which types grow in both halves of the uses, by an object for every second use."""
    counts = []
    for start, end in ((0, 10), (10, times // 2), (times // 2, times)):
        for i in range(start, end):
            use(i)
        counts.append(live())
    # Python's own caches of isinstance may be filled anew, once.
    first, second = (after - before for before, after in pairwise(counts))
    return {kind: more for kind, more in (first & second).items() if more > times / 4}


def test_steps_that_are_made_leave_nothing_behind():
    def use(i):
        for donate in (False, True):
            step, state = make(i, donate=donate)
            step(state, (X, TARGET))

    assert grown(use, 120) == {}


def test_steps_that_are_taken_leave_nothing_behind():
    step, state = make(0, donate=False)

    def use(_):
        nonlocal state
        state, _ = step(state, (X, TARGET))

    assert grown(use, 300) == {}
