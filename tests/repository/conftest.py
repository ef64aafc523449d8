"""Fixtures: the runs of the examples, and the site; and the places of what the docs import."""

import os
import sys
from importlib import import_module
from pathlib import Path

import pytest
from helpers.browser import CHROMIUM, open_browser
from helpers.examples import EXAMPLES

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(EXAMPLES), str(ROOT / "docs/_tools")]


@pytest.fixture
def example():
    """Import an example's module, as its neighbours find it."""
    return import_module


@pytest.fixture
def run(capsys):
    """Run an example's main, and give the lines that it prints."""

    def run_example(name, *arguments):
        import_module(name).main([str(argument) for argument in arguments])
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
    return ROOT / os.environ["LINCOLN_FN_SITE"]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Give a page of a browser."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page
