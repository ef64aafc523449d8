"""Fixtures: the runs of the examples, and the site."""

import os
from importlib import import_module
from pathlib import Path

import pytest
from helpers.examples import EXAMPLES


@pytest.fixture
def example(monkeypatch):
    """Import an example's module, as its neighbours find it."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return import_module


@pytest.fixture
def run(example, capsys):
    """Run an example's main, and give the lines that it prints."""

    def run_example(name, *arguments):
        example(name).main([str(argument) for argument in arguments])
        return capsys.readouterr().out.splitlines()

    return run_example


@pytest.fixture
def picture(tmp_path):
    """Give the path at which an example draws, and see afterwards that a picture is there."""
    path = tmp_path / "picture.png"
    yield path
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.fixture(scope="module")
def site():
    """Give the site that an environment variable names."""
    if "LINCOLN_FN_SITE" not in os.environ:
        pytest.skip("LINCOLN_FN_SITE names no site")
    return Path(__file__).parents[2] / os.environ["LINCOLN_FN_SITE"]
