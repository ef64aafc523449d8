"""Grades and assignments in the forms of nbgrader and of otter-grader."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Iterator
from typing import Any, Final, TypeAlias

from lincoln_fn.grading.blanks import END
from lincoln_fn.grading.record import Grade

# Any: what JSON holds.
Cell: TypeAlias = dict[str, Any]
# Seconds for each of two cases. nbgrader gives a cell 30 seconds.
TIME_LIMIT: Final = 5


def nbgrader_notebook(
    name: str, source: str, blanks: Collection[str], setup: str, leaves: Collection[str]
) -> str:
    """Write the teacher's notebook of an assignment, from which nbgrader makes the student's."""
    cells = [
        _code(code, _marked(function, solution=True) if function else None)
        for code, function in _pieces(source, blanks)
    ]
    grading = f"result = lf.testing.grade(globals(), reference, cases, time_limit={TIME_LIMIT})"
    tests = [_code(f"{setup}\n{grading}\nprint(result)", _marked("grading"))]
    # nbgrader takes a cell's value for the points that it earns.
    tests += [
        _code(f'result.mark("{leaf}").points', _marked(f"{name}-{leaf}", points=1))
        for leaf in leaves
    ]
    return _notebook([_text(name, source), *cells, *tests])


def otter_notebook(name: str, source: str, blanks: Collection[str]) -> str:
    """Write the notebook that students are given with otter-grader's tests."""
    start = _code('import otter\n\ngrader = otter.Notebook(tests_dir="tests")')
    cells = [_code(code) for code, _ in _pieces(source, blanks)]
    return _notebook([_text(name, source), start, *cells, _code(f'grader.check("{name}")')])


def _pieces(source: str, blanks: Collection[str]) -> Iterator[tuple[str, str]]:
    """Cut a file into the functions that are blanked, with their names, and what is between."""
    lines = source.splitlines()
    module = ast.parse(source)
    # The file's docstring is text of the notebook.
    start = module.body[0].end_lineno or 0 if ast.get_docstring(module) else 0
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name in blanks:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            if between := "\n".join(lines[start:first]).strip():
                yield between, ""
            start = node.end_lineno or 0
            if lines[start : start + 1] and lines[start].strip() == END:  # a comment, not a node
                start += 1
            yield "\n".join(lines[first:start]), node.name
    if rest := "\n".join(lines[start:]).strip():
        yield rest, ""


def _text(name: str, source: str) -> Cell:
    told = ast.get_docstring(ast.parse(source)) or ""
    text = f"# {name}\n\n```text\n{told}\n```"
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(code: str, metadata: Cell | None = None) -> Cell:
    return {
        "cell_type": "code", "metadata": metadata or {}, "source": code,
        "execution_count": None, "outputs": [],
    }  # fmt: skip


def _marked(grade_id: str, *, points: int | None = None, solution: bool = False) -> Cell:
    """Make nbgrader's metadata: a cell of a solution, of a test with points, or read-only."""
    graded = {"grade": True, "points": points} if points else {"grade": False}
    rest = {
        "grade_id": grade_id.replace(".", "-"), "solution": solution, "locked": not solution,
        "schema_version": 3, "task": False,
    }  # fmt: skip
    return {"nbgrader": graded | rest}


def _notebook(cells: list[Cell]) -> str:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {
        "cells": [{"id": f"cell-{i}", **cell} for i, cell in enumerate(cells)],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def otter_results(grade: Grade) -> str:
    """Write a grade as otter-grader writes its results: `results.json`, in Gradescope's format.

    Example:
        >>> from lincoln_fn.testing import Grade, Mark
        >>> json.loads(otter_results(Grade("tanh()", (Mark("dx", 0.5, 1),))))["tests"][0]["score"]
        0.5
    """
    tests = [
        {
            "name": f"{grade.name} {mark.leaf}",
            "score": round(mark.points, 5),
            "max_score": round(mark.possible, 5),
            "visibility": "visible",
            "output": "\n".join(mark.hints),
        }
        for mark in grade.marks
    ]
    told = "\n".join([*grade.problems, *grade.remarks])
    return json.dumps({"tests": tests, "output": told}, indent=2, ensure_ascii=False)


def otter_test_file(name: str, setup: str, leaves: Collection[str]) -> str:
    """Write a test file of otter-grader, in its format of functions that raise."""
    tests = "".join(
        f'\n\n@test_case(name="{leaf}", points=1)\n'
        f"def test_{leaf.replace('.', '_')}(env):\n"
        f'    graded(env).check("{leaf}")\n'
        for leaf in leaves
    )
    return f'''OK_FORMAT = False

import torch
from otter.test_files import test_case

import lincoln_fn as lf

name = "{name}"
points = None
{setup}
grades = []


def graded(env):
    # otter reads this file again for each check, so one grade serves all of its test cases.
    if not grades:
        grades.append(lf.testing.grade(env, reference, cases, time_limit={TIME_LIMIT}))
        print(grades[0])
    return grades[0]
{tests}'''
