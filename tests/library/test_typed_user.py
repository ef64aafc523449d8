"""A typed program of a user's runs, and needs nothing of type checkers; `.ci/run` asks them."""

from pathlib import Path

import pytest
import typed_user


@pytest.mark.full
def test_the_program_runs(tmp_path, capsys):
    typed_user.main(tmp_path)
    said = capsys.readouterr().out
    assert "coupled(dense(16), serial(dense(16), tanh()))" in said
    assert "identity()" in said
    assert said.rstrip().endswith("expected x of shape (..., 6), got (120, 5)")
    assert (tmp_path / "state.safetensors").is_file()


def test_it_learns(tmp_path):
    _, state, found = typed_user.trained(tmp_path)
    assert int(state.step) == 18
    assert found[-1] > 0.8


def test_no_checker_is_told_to_look_away():
    text = Path(typed_user.__file__).read_text()
    assert not [word for word in ("ignore", "cast(", "Any", "noqa") if word in text]
