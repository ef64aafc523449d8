"""Files of courses are graded as they are, in processes that can do no harm.

The files of tests/helpers/courses are in the form of each course, and were written for these tests.
"""

import csv
import io
import os
import sys
from pathlib import Path

import pytest
from helpers import assert_says

import lincoln_fn as lf
from lincoln_fn.grading import confined
from lincoln_fn.grading.courses import course
from lincoln_fn.grading.courses.graded import main

sys.path.insert(0, str(Path(__file__).parents[2] / "docs/_tools"))

import course_pages

FILES = Path(__file__).parent.parent / "helpers" / "courses"


def graded(capsys, *arguments):
    main([*map(str, arguments), "--csv"])
    told = capsys.readouterr()
    assert not told.err
    return list(csv.DictReader(io.StringIO(told.out)))


def wrong(rows):
    return {
        f"{row['exercise']} {row['gradient']}": row["mistake"] for row in rows if row["mistake"]
    }


# For each course the number of gradients, and the names of the mistakes.
GRADES = {
    "cs231n": (9, {"affine db": "averaged", "relu ": "in place", "batchnorm dx": "path missing",
        "max_pool_naive dx": "line"}),
    "micrograd": (11, {"square dx": "factor", "tanh dx": "derivative",
        "backward dx": "path missing"}),
    "minitorch": (6, {"inv dx": "sign"}),
    "mytorch": (9, {"Linear dW": "averaged", "Tanh dZ": "derivative"}),
    "deep_learning_from_scratch": (9, {"Relu ": "in place", "Sigmoid dx": "factor missing"}),
    "deep_learning_from_scratch_2": (8, {"Embedding dW": "overwritten"}),
    "dlsys": (7, {"divide dy": "further factor", "logsumexp dx": "derivative missing"}),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [c if c == "minitorch" else pytest.param(c, marks=pytest.mark.full) for c in GRADES]
)
def test_a_file_of_each_course_is_graded_as_it_is(capsys, name):
    rows = graded(capsys, name, FILES / f"{name}.py")
    count, mistakes = GRADES[name]
    found = wrong(rows)
    assert {k: v for k, v in found.items() if k in mistakes} == mistakes
    assert {k.strip() for k in found} == {k.strip() for k in mistakes}
    assert sum(bool(row["gradient"]) for row in rows) == count
    right = [row for row in rows if row["gradient"] and not row["mistake"]]
    assert all(float(row["points"]) == 1 for row in right)


def test_each_course_has_a_table_that_its_references_can_compute():
    for name in course.names():
        for exercise in course.read(name).exercises:
            for case in exercise.cases:
                x, others = exercise.case(case)
                for reference in exercise.references(others):
                    y = reference.forward((), x)[0]
                    assert all(bool(leaf.isfinite().all()) for leaf in lf.tree.leaves(y))
            assert exercise.arrays, exercise.name
            assert exercise.outputs, exercise.name


def test_a_course_that_there_is_not_is_refused():
    assert_says("one of cs231n, ... , or a file *.ini, got 'cs999'", course.read, "cs999")


HANGS = """
import numpy as np
def relu_forward(x): return np.maximum(x, 0), x
def relu_backward(dout, cache):
    while True: pass
"""
CRASHES = """
import os
import numpy as np
def relu_forward(x): return np.maximum(x, 0), x
def relu_backward(dout, cache): os.abort()
"""
ABUSES = """
import os, resource, shutil, socket, subprocess
import numpy as np

def refused(act):
    try:
        act()
    except (OSError, MemoryError):
        return
    raise SystemExit("it was done")

refused(lambda: open({victim!r}, "w"))
refused(lambda: os.remove({victim!r}))
refused(lambda: shutil.rmtree({folder!r}))
refused(lambda: os.system("touch " + {victim!r} + "2"))
refused(lambda: subprocess.run(["touch", {victim!r} + "2"]))
refused(lambda: socket.create_connection(("127.0.0.1", 9)))
refused(lambda: bytearray(64 << 30))
refused(lambda: os.kill(os.getppid(), 0))
refused(lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE))
refused(lambda: os.chmod({victim!r}, 0o777))
refused(lambda: os.utime({victim!r}))
open("mine", "w").write("in its own folder it may write")
shutil.copyfile(__file__, "copy")  # it may read what you can read

def relu_forward(x): return np.maximum(x, 0), x
def relu_backward(dout, cache): return dout * (cache > 0)
"""

FORGES = """
import gc, os
from multiprocessing.connection import Connection
import numpy as np

class Harm:
    def __reduce__(self): return os.mkdir, ({victim!r} + "3",)

def relu_forward(x): return np.maximum(x, 0), x
def relu_backward(dout, cache):
    for found in gc.get_objects():
        if isinstance(found, Connection) and found.writable:
            found.send(Harm())
"""

ESCAPES = """
import ctypes, os
import numpy as np

c = ctypes.pythonapi  # Python's audit hooks see none of its calls
assert c.fork() == c.vfork() == c.socket(1, 1, 0) == c.kill(os.getppid(), 0) == -1
victim, parent = {victim!r}.encode(), os.getppid()
assert c.open(victim, 0o101) == c.execl(b"/bin/true", b"true", None) == -1
assert c.chmod(victim, 0o777) == c.fchmodat(-100, victim, 0o777, 0) == c.chown(victim, 0, 0) == -1
assert c.utime(victim, None) == c.utimensat(-100, victim, None, 0) == -1
assert c.setxattr(victim, b"user.x", b"x", 1, 0) == c.removexattr(victim, b"user.y") == -1
assert c.prlimit(parent, 4, None, None) == c.setpriority(0, parent, os.getpriority(0, parent)) == -1
assert c.sched_setaffinity(parent, 128, b"\\xff" * 128) == c.socketpair(1, 1, 0, bytes(8)) == -1
assert c.fcntl(1, 8, parent) == c.fcntl(1, 10, 9) == -1  # whom and how a pipe signals
assert c.prlimit(0, 4, None, None) == c.fcntl(1, 3) - c.fcntl(1, 3) == 0  # its own may be seen
for fd in range(3, 64):
    try:
        if os.readlink(f"/proc/self/fd/{{fd}}") == {victim!r}:
            os.write(fd, b"changed")
    except OSError:
        pass
os.symlink(".", "loop")
os.mkdir("locked", 0)
for _ in range(300):
    os.mkdir("deep")
    os.chdir("deep")
sys = ().__class__.__base__.__subclasses__()

def relu_forward(x): return np.maximum(x, 0), x
def relu_backward(dout, cache): return dout * (cache > 0)
"""
FILLS = """
for n in range(9):
    open(str(n), "wb").truncate(15 << 20)
while True: pass
"""


@pytest.fixture
def folder(tmp_path):
    """Give a folder for the files of a class, beside a file that none of them may change."""
    victim, folder = tmp_path / "victim", tmp_path / "class"
    victim.write_text("whole")
    folder.mkdir()
    (folder / "abuses.py").write_text(ABUSES.format(victim=str(victim), folder=str(folder)))
    before, here = victim.stat(), os.getcwd()
    yield folder
    assert victim.read_text() == "whole"
    kept = ("st_mode", "st_uid", "st_mtime_ns", "st_ctime_ns")
    assert all(getattr(victim.stat(), name) == getattr(before, name) for name in kept)
    assert (sorted(p.name for p in tmp_path.iterdir()), os.getcwd()) == (["class", "victim"], here)


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="Linux enforces it")
def test_files_that_crash_or_abuse_imports_do_no_harm(capsys, folder):
    victim = folder.parent / "victim"
    written = {"crashes": CRASHES, "forges": FORGES, "escapes": ESCAPES, "fills": FILLS}
    for name, text in written.items():
        text = text.format(victim=str(victim)) if "{victim" in text else text
        (folder / f"{name}.py").write_text(text)
    with victim.open("a"):  # a file that the grading has open
        rows = graded(capsys, "cs231n", folder)
    found = {(row["file"], row["gradient"]): row["said"] for row in rows}
    assert found == {
        ("abuses.py", ""): "imports os, resource, shutil, socket, subprocess",
        ("abuses.py", "dx"): "",
        ("crashes.py", ""): "imports os",
        ("crashes.py", "dx"): "crashes (signal 6)",
        ("escapes.py", ""): "uses __subclasses__",
        ("escapes.py", "dx"): "",
        ("fills.py", ""): "writes too many or too large files",
        ("forges.py", ""): "imports gc, multiprocessing, os",
        ("forges.py", "dx"): "writes into the pipe of the grading",
    }


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere both are missing")
@pytest.mark.parametrize("lacks", [("libseccomp",), ("Landlock", "libseccomp")])
def test_python_refuses_what_a_machine_cannot_and_the_command_says_so(
    capsys, folder, monkeypatch, lacks
):
    monkeypatch.setattr(confined, "_filter_calls", lambda: False)
    if "Landlock" in lacks:
        monkeypatch.setattr(confined, "_restrict_writes", lambda *_: False)
    main(["cs231n", str(folder)])
    told = capsys.readouterr()
    assert "abuses.py: 1 of 1" in told.out
    assert f"not fully confined: no {' and '.join(lacks)}; " in told.err


@pytest.mark.full
def test_files_that_hang_are_ended(capsys, tmp_path):
    (tmp_path / "hangs.py").write_text(HANGS)
    (tmp_path / "hangs_at_once.py").write_text("while True: pass\n")
    rows = graded(capsys, "cs231n", tmp_path, "--time-limit", "0.5")
    found = {(row["file"], row["gradient"]): row["said"] for row in rows}
    assert found.keys() == {("hangs.py", "dx"), ("hangs_at_once.py", "")}
    assert {*found.values()} == {"does not end within 0.5 s"}


OWN_TABLE = """
[course]
title = a course
[modules]
of_course =
[relu]
forward = out, cache = relu_forward(x)
backward = dx = relu_backward(dout, cache)
cases = x=(4, 5)
"""
LAYERS = """
from of_course import Base
from .drawing import show
from .ops import above


class Layer(Base):
    pass


def relu_forward(x): return x * above(x), x
def relu_backward(dout, x): return dout * above(x)
"""


@pytest.mark.full(but=("[unused.py]",))
@pytest.mark.parametrize("package", ["net/__init__.py", "unused.py"])
def test_a_module_that_lacks_an_import_costs_only_what_uses_it(capsys, tmp_path, package):
    (tmp_path / "course.ini").write_text(OWN_TABLE)
    # The student's package has the module that the table has a stand-in for.
    for name, text in {
        package: "import no_such_module",
        "net/layers.py": LAYERS,
        "net/ops.py": "import numpy as np, no_such_module\ndef above(x): return x > 0",
        "net/drawing.py": "from no_such_module import plot\nshow = plot()",
        "of_course/__init__.py": "class Base: pass",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    rows = graded(capsys, tmp_path / "course.ini", tmp_path / "net" / "layers.py")
    assert [row["points"] for row in rows if row["gradient"]] == ["1.0"]


RECORDS = """
from __future__ import annotations
from dataclasses import dataclass


@dataclass
class Kept:
    x: float


def relu_forward(x): return x * (x > 0), Kept(x)
def relu_backward(dout, cache): return dout * (cache.x > 0)
"""


@pytest.mark.full
def test_a_file_may_have_records_whose_annotations_are_texts(capsys, tmp_path):
    (tmp_path / "layers.py").write_text(RECORDS)
    rows = graded(capsys, "cs231n", tmp_path / "layers.py")
    assert [row["points"] for row in rows if row["gradient"]] == ["1.0"]


LOSS = """
class MSELoss:
    def forward(self, A, Y):
        self.A, self.Y = A, Y
        return ((A - Y) ** 2).mean(keepdims=True) / 2

    def backward(self):
        return (self.A - self.Y) / self.A.size
"""


def test_a_loss_may_have_axes_of_one(capsys, tmp_path):
    (tmp_path / "loss.py").write_text(LOSS)
    (row,) = graded(capsys, "mytorch", tmp_path / "loss.py")
    assert (row["gradient"], row["points"], row["said"]) == ("dA", "1.0", "")


def test_functions_of_a_course_become_a_layer():
    def forward(x, w, conv_param):
        conv_param["stride"] += 1  # as some change their options
        return x @ w, (x, w)

    def backward(dout, cache):
        x, w = cache
        return dout @ w.T, x.T @ dout

    layer = lf.testing.from_numpy(forward, backward, conv_param={"stride": 1})
    x, w = lf.keys.normal(lf.Key(0), (5, 3)), lf.keys.normal(lf.Key(1), (3, 4))
    lf.testing.check_layer(layer, (w,), x)

    assert_says("expected a function, got 3", lf.testing.from_numpy, 3)


@pytest.mark.parametrize("name", course.names())
def test_each_course_has_a_page_with_its_exercises(name):
    read = course.read(name)
    page, docs = course_pages.page(read), Path(__file__).parents[2] / "docs"
    assert page.startswith(f"# {read.title}\n")
    for exercise in read.exercises:
        assert f"\n## {exercise.name}\n" in page
        assert {*exercise.forward.split("; "), *exercise.backward.split("; ")} <= {
            *page.split("\n")
        }
        assert all(f"`{line.strip()}`" in page for line in exercise.reference.splitlines())
    for listing in (docs.parent / "mkdocs.yml", docs / "guides/courses.md"):
        assert f"courses/{name}.md" in listing.read_text()
