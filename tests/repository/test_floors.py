"""What the gate reads and names: the oldest releases in pyproject.toml, and files of tests."""

import re
import runpy
from itertools import product
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
GATE = (ROOT / ".ci" / "run").read_text()
floors = runpy.run_path(str(ROOT / ".ci" / "floors.py"))["floors"]
processors = runpy.run_path(str(ROOT / ".ci" / "processors.py"))


def test_each_dependency_has_a_floor():
    found = floors((ROOT / "pyproject.toml").read_text())
    names = [one.partition("==")[0] for one in found]
    assert {"attrs", "numpy", "torch"} <= set(names)
    assert names == sorted(set(names))
    assert "torch==2.9" in found


def test_the_exact_packages_are_at_or_above_the_floors():
    text = (ROOT / "benchmarks" / "requirements.txt").read_text().lower()
    exact = dict(re.findall(r"^([\w-]+)==([\w.]+)$", text, re.MULTILINE))
    for one in floors((ROOT / "pyproject.toml").read_text()):
        name, _, floor = one.partition("==")
        assert Version(exact[name]) >= Version(floor), one


def test_a_dependency_without_a_floor_is_named():
    text = 'dependencies = [\n    "attrs>=23.1",  # records\n    "torch",\n]\n'
    with pytest.raises(AssertionError, match=r"each dependency needs a floor: .*'torch'"):
        floors(text)


def test_the_gate_tries_them():
    assert "$(python3 .ci/floors.py)" in GATE
    assert "typed_user.py" in GATE


def in_braces(path):
    """Give the paths that a shell makes of one with words in braces."""
    parts = [part.split(",") for part in re.split(r"[{}]", path)]
    return ["".join(one) for one in product(*parts)]


def test_the_gate_names_files_that_exist():
    groups = (processors[name] for name in ("TWINS", "KERNELS", "COMPILED", "BITS"))
    fuzz, _, test = processors["FUZZ"].partition("::")
    assert f"def {test}(" in (ROOT / fuzz).read_text()
    named = {*processors["files"](*groups), *processors["EMULATED"][:2]}
    for path in re.findall(r"tests/\S+\.py", GATE):
        named |= {*in_braces(path)}
    assert len(named) > 30
    assert sorted(path for path in named if not (ROOT / path).is_file()) == []
