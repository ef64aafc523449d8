"""Fixtures: the runs of the examples, and the site."""

import os
from importlib import import_module
from pathlib import Path

import pytest
from helpers.examples import EXAMPLES


@pytest.fixture
def run(monkeypatch, capsys):
    """Run an example's main, and give the lines that it prints."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run_example(name, *arguments):
        import_module(name).main([str(argument) for argument in arguments])
        return capsys.readouterr().out.splitlines()

    return run_example


@pytest.fixture(scope="module")
def site():
    """Give the site that an environment variable names."""
    if "LINCOLN_FN_SITE" not in os.environ:
        pytest.skip("LINCOLN_FN_SITE names no site")
    return Path(__file__).parents[2] / os.environ["LINCOLN_FN_SITE"]
