"""A fixture: the runs of the examples."""

from importlib import import_module

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
