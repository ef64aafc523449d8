"""Make an assignment of a layer's file: `python -m lincoln_fn.testing.assignment softmax`.

It writes a folder:

    assignment.py              the teacher's: the reference, the blanks and the cases
    student/softmax.py         the layer's file, with its backward pass blanked
    nbgrader/softmax.ipynb     a source notebook of nbgrader
    otter/softmax.ipynb        a notebook for otter-grader
    otter/tests/softmax.py     its tests
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from lincoln_fn import layers
from lincoln_fn.core import LayerError, unexpected
from lincoln_fn.grading import handouts
from lincoln_fn.testing.internal import floating

_TABLE: Final = ConfigParser(interpolation=None, delimiters="=")
_TABLE.read_string(Path(__file__).with_name("examples.ini").read_text())
# By a layer's file: the layer and an example of its x, in Python.
EXAMPLES: Final = {name: tuple(row.split(" | ")) for name, row in _TABLE["examples"].items()}
# Files that make no assignment, and why.
UNSUITED: Final = dict(_TABLE["unsuited"])
_LAYERS: Final = Path(layers.__path__[0])
_MODULE: Final = '''"""The assignment {name}: the right layer, what is blanked, and the cases.

Grade a class by `python assignment.py handed_in/*.py`.
"""

import sys

import torch

import lincoln_fn as lf

{setup}
blanks = {blanks!r}

if __name__ == "__main__":
    grades = {{}}
    for path in sys.argv[1:]:
        print(repr(path))
        grades[path] = lf.testing.grade(path, reference, cases, hints=1)
        print(grades[path])
    print(lf.testing.Grades(grades))
'''


def files(
    name: str,
    *,
    blank: Sequence[str] = (),
    derivation: bool = False,
    reference: str = "",
    x: str = "",
    seed: int = 0,
) -> Mapping[str, str]:
    """Write the files of an assignment; the arguments are the options of the command."""
    if name in UNSUITED:
        expected = "the file of a layer with a gradient"
        raise unexpected("assignment", expected, f"{name}, {UNSUITED[name]}", "write softmax, say")
    names = [path.stem for path in _LAYERS.glob("[a-z]*.py")]
    if name not in names:
        close = get_close_matches(name, names, 1)
        mend = f"write {close[0]}" if close else ""
        raise unexpected("assignment", "a layer's file, such as softmax", name, mend)
    call, example = EXAMPLES.get(name, (f"{name}()", "torch.zeros(5, 3)"))
    source = handouts.without_terms((_LAYERS / f"{name}.py").read_text())
    blanks = tuple(blank) or handouts.backward_pass(source)
    setup = (
        f"reference = {reference or f'lf.{call}'}\n"
        f"cases = lf.testing.make_cases(reference, {x or example}, key=lf.Key({seed}))"
    )
    imports = f"import torch\n\nimport lincoln_fn as lf\n\n{setup}"
    leaves = _leaves(imports)
    student = handouts.blanked(source, blanks, derivation=derivation)
    solved = handouts.blanked(source, blanks, derivation=derivation, solution=True)
    return {
        "assignment.py": _MODULE.format(name=name, setup=setup, blanks=blanks),
        f"student/{name}.py": f"{student.rstrip()}\n",
        f"nbgrader/{name}.ipynb": handouts.nbgrader_notebook(name, solved, blanks, imports, leaves),
        f"otter/{name}.ipynb": handouts.otter_notebook(name, student, blanks),
        f"otter/tests/{name}.py": handouts.otter_test_file(name, setup, leaves),
    }


def _leaves(code: str) -> list[str]:
    names: dict[str, object] = {}
    exec(code, names)  # the teacher's own code
    cases = names["cases"]
    assert isinstance(cases, tuple)
    return list(dict.fromkeys(leaf for case in cases for leaf in floating(*case)[0]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m lincoln_fn.testing.assignment", description="Make an assignment of a layer."
    )
    parser.add_argument("name", metavar="layer", help="the name of a layer's file, such as softmax")
    parser.add_argument("--to", type=Path, help="the folder to write; default: the layer's name")
    parser.add_argument(
        "--blank", nargs="+", default=(), metavar="FUNCTION",
        help="the functions to blank; default: the backward pass",
    )  # fmt: skip
    parser.add_argument(
        "--derivation", action=argparse.BooleanOptionalAction, default=False,
        help="leave the derivation in the file; its last lines are the answer",
    )  # fmt: skip
    parser.add_argument("--reference", default="", help='the right layer: "lf.softmax(dim=1)"')
    parser.add_argument("--x", default="", help='an example input: "torch.zeros(5, 3)"')
    parser.add_argument("--seed", type=int, default=0, help="of the cases; default: 0")
    given = vars(parser.parse_args(arguments))
    folder = given.pop("to") or Path(given["name"])
    try:
        made = files(given.pop("name"), **given)
        write(folder, made)
    except LayerError as error:
        parser.error(str(error))
    print(*(folder / path for path in made), sep="\n")


def write(folder: Path, made: Mapping[str, str]) -> None:
    """Write files into a folder."""
    there = [path for path in made if (folder / path).exists()]
    if there:
        problem = f"expected a new folder, but there is {folder / there[0]}; choose another by --to"
        raise LayerError("assignment", problem)
    for path, text in made.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
