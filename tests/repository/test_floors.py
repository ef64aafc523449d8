"""The oldest releases admitted stand once, in pyproject.toml, where `.ci/run` reads them."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
floors = runpy.run_path(str(ROOT / ".ci" / "floors.py"))["floors"]


def test_each_dependency_has_a_floor():
    found = floors((ROOT / "pyproject.toml").read_text())
    names = [one.partition("==")[0] for one in found]
    assert {"attrs", "numpy", "torch"} <= set(names)
    assert names == sorted(set(names))
    assert "torch==2.9" in found


def test_a_dependency_without_a_floor_is_named():
    text = 'dependencies = [\n    "attrs>=23.1",  # records\n    "torch",\n]\n'
    with pytest.raises(AssertionError, match=r"each dependency needs a floor: .*'torch'"):
        floors(text)


def test_the_gate_tries_them():
    gate = (ROOT / ".ci" / "run").read_text()
    assert "floors=$($bin/python .ci/floors.py)" in gate
    assert "typed_user.py" in gate
