"""The public names and signatures are those of the file; public modules are imported by name."""

import difflib
from importlib import import_module
from pathlib import Path
from types import ModuleType

import public_api

import lincoln_fn as lf


def test_what_users_call_is_what_the_file_says():
    written = public_api.FILE.read_text(encoding="utf-8").splitlines()
    found = public_api.text().splitlines()
    changes = [
        line
        for line in difflib.unified_diff(written, found, "public_api.txt", "the code", n=0)
        if not line.startswith("@@")
    ]
    mend = "python tests/public_api.py writes the file; CHANGELOG.md names the change"
    assert not changes, "\n".join([mend, *changes])


def test_all_names_are_public_and_there():
    assert lf.__all__ == sorted(lf.__all__)
    assert {"dense", "fit", "Key", "losses", "optim"} <= set(lf.__all__)
    assert all(hasattr(lf, name) and not name.startswith("_") for name in lf.__all__)


def test_public_modules_are_imported_by_their_public_names():
    for name in lf.__all__:
        if isinstance(getattr(lf, name), ModuleType):
            assert import_module(f"lincoln_fn.{name}") is getattr(lf, name)


def test_the_citation_has_the_version():
    citation = (Path(__file__).parents[2] / "CITATION.cff").read_text()
    assert f"\nversion: {lf.__version__}\n" in citation


def test_a_line_holds_no_address():
    assert " at 0x" not in public_api.text()
