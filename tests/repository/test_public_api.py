"""The public names and signatures are those of the file, and deprecated names still work."""

import difflib
from pathlib import Path

import public_api
import pytest

import lincoln_fn as lf
from lincoln_fn.core.retire import retired


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


@pytest.mark.parametrize(
    "line",
    [
        "lf.relu() -> Layer",
        "lf.Key.fold_in(self, data: int | Tensor) -> Key",
        "lf.metrics.accuracy(prediction: Tensor, target: Tensor) -> float",
        "lf.layers.embedding.forward(params: Params, x: Int[Tensor, '*batch']",
    ],
)
def test_a_line_reads_like_the_code(line):
    assert any(found.startswith(line) for found in public_api.lines()), line


def test_a_retired_function_works_and_says_what_to_write():
    @retired(since="1.1", until="2.0", use="lf.dense")
    def linear(n_out):
        """Make a layer."""
        return lf.dense(n_out)

    message = "^linear is retired since 1.1 and gone in 2.0; use lf.dense$"
    with pytest.warns(DeprecationWarning, match=message) as caught:
        assert str(linear(3)) == "dense(3)"
    assert caught[0].filename == __file__
    assert linear.__doc__ == "Retired since 1.1, gone in 2.0: use lf.dense.\n\nMake a layer."


def test_the_citation_has_the_version():
    citation = (Path(__file__).parents[2] / "CITATION.cff").read_text()
    assert f"\nversion: {lf.__version__}\n" in citation


def test_a_line_holds_no_address():
    assert " at 0x" not in public_api.text()
