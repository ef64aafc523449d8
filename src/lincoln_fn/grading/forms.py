"""Grades and assignments in the forms of nbgrader and of otter-grader."""

from __future__ import annotations

import json
from collections.abc import Collection

from lincoln_fn.grading.notebooks import TIME_LIMIT
from lincoln_fn.grading.record import Grade


def otter_results(grade: Grade) -> str:
    """Write a grade as otter-grader writes its results: `results.json`, in Gradescope's format.

    Args:
        grade: the grade.

    Returns:
        JSON. It has a test for each gradient, with its name, score, highest score and hints.

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
