"""The README's code runs, and says what it is said to say."""

import re
from pathlib import Path

import pytest

import lincoln_fn as lf

README = Path(__file__).parent.parent / "README.md"


def test_the_tour_runs_from_top_to_bottom(capsys):
    *blocks, last = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    assert "step=200" in capsys.readouterr().out
    assert (
        lf.metrics.accuracy(
            names["net"].predict(names["state"].params, names["x"]), names["target"]
        )
        > 0.9
    )
    said = last.rpartition("# GradientError: ")[2].strip()
    with pytest.raises(lf.testing.GradientError, match=f"^{re.escape(said)}$"):
        exec(last, names)


def test_the_commands_are_those_of_the_gate():
    commands = re.findall(r"^python3 -m venv .*$", README.read_text(), flags=re.MULTILINE)
    assert len(commands) == 2
    gate = (README.parent / ".ci" / "run").read_text()
    assert "grep -E '^python3 -m venv .* pytest' README.md" in gate
    assert sum(" pytest" in command for command in commands) == 1
