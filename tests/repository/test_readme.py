"""The README's code runs, and says what it is said to say."""

import contextlib
import io
import re
from functools import cache
from pathlib import Path

import pytest
from helpers.compare import same_number

import lincoln_fn as lf

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@cache
def tour():
    """Run the code from top to bottom: its names, and what it prints."""
    names, said = {}, io.StringIO()
    with contextlib.redirect_stdout(said):
        for block in BLOCKS:
            exec(block, names)
    return names, said.getvalue()


def test_the_code_runs_from_top_to_bottom_and_the_tour_tells_held_out_accuracy():
    names, said = tour()
    assert "step=300" in said
    (accuracy,) = re.findall(r"^\{'accuracy': (.*)\}$", said, flags=re.MULTILINE)
    assert float(accuracy) > 0.95
    held_out, train = names["test"].tolist(), names["train"].tolist()
    assert len(held_out) == 297
    assert not set(held_out).intersection(train)


def test_the_step_by_hand_is_the_tours_step():
    names, _ = tour()
    batch = names["x"][names["train"]], names["target"][names["train"]]
    state, value = names["step"](names["state"], batch)
    assert same_number(value, names["value"])
    assert same_number(state.params, names["params"])


def test_a_flipped_sign_is_found_with_the_words_that_stand_there():
    names = {}
    flipped = BLOCKS[0].replace("return g * y", "return -g * y")
    assert flipped != BLOCKS[0]
    (said,) = re.findall(r"`GradientError: (.*?)`", TEXT)
    with pytest.raises(lf.testing.GradientError, match=f"^{re.escape(said)}$"):
        exec(flipped, names)


def test_it_is_short_and_begins_with_code():
    assert len(TEXT.split()) <= 600
    assert TEXT.splitlines().index("```python") < 25


def test_every_link_leads_to_a_file_and_a_heading():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        assert (README.parent / path).exists(), link
        headings = re.findall(r"^#+ (.*)$", (README.parent / path).read_text(), re.MULTILINE)
        slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
        assert not anchor or anchor in slugs, link


def test_the_commands_are_those_of_the_gate():
    commands = re.findall(r"^python3 -m venv .*$", TEXT, flags=re.MULTILINE)
    assert len(commands) == 2
    gate = (README.parent / ".ci" / "run").read_text()
    assert "grep -E '^python3 -m venv .* pytest' README.md" in gate
    assert 'bash -c "$test_command"\n' in gate
    assert sum(" pytest" in command for command in commands) == 1
    (docs,) = re.findall(r"^ *docs_command=.*grep -oE \"(.*)\" README.md", gate, flags=re.MULTILINE)
    assert len(re.findall(docs, TEXT)) == 1
    assert not re.search(r"mkdocs build.*(--quiet|-q)", gate)  # it hides warnings from `strict`


def figures_of(row, text):
    """Give the numbers in the one row of a table that begins with these words."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {row} |"))
    return [float(figure) for figure in re.findall(r"\d+\.\d+", line)]


def test_the_faq_gives_the_figures_of_the_page_on_speed():
    docs = README.parent / "docs"
    speed = (docs / "speed.md").read_text()
    ratios = [
        ratio
        for optimizer in ("SGD", "momentum", "AdamW")
        for ratio in figures_of(f"{optimizer}: torch eager", speed)
    ]
    assert f"took {min(ratios):.2f} to {max(ratios):.2f} of" in (docs / "faq.md").read_text()
