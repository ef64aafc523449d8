"""What students are given: a layer's file with functions blanked, and notebooks of it.

The notebooks are for nbgrader and for otter-grader.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

from lincoln_fn.core import unexpected

# What a function that nobody has written yet does: nbgrader's own words.
BLANK = "# YOUR CODE HERE\nraise NotImplementedError()"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
_PASS = ("backward", "input_grad", "grads", "back", "gather")
# What a blanked function is told to do.
_TOLD: Final = {
    "backward": "Return dx and dparams.", "input_grad": "Return dx alone.",
    "grads": "Return dparams alone.", "forward": "Return y, and what backward needs.",
    "predict": "Return y alone.", "init": "Return the first params.",
}  # fmt: skip
_OTHER: Final = "Compute a part of the gradients."
_TERMS: Final = ("terms", "dx_and_terms")
# Any: what JSON holds.
Cell: TypeAlias = dict[str, Any]
# Seconds for each of two cases. nbgrader gives a cell 30 seconds.
TIME_LIMIT: Final = 5


def backward_pass(source: str) -> tuple[str, ...]:
    """List the functions of a file that make up its backward pass."""
    # They are `backward`, `input_grad` and `grads`; those with "backward" in their names; and the
    # private helpers that only these use. Checks of arguments are not among them.
    module = ast.parse(source)
    names = [
        node.name
        for node in module.body
        if isinstance(node, ast.FunctionDef)
        and "constructor" not in map(ast.unparse, node.decorator_list)
    ]
    found = {n for n in names if n in _PASS or ("backward" in n and not _is_check(n))}
    helpers = {node.name for node in _only_used_by(module, found)}
    found |= {n for n in helpers if n[0] == "_" and not _is_check(n)}
    return tuple(name for name in names if name in found)


def blanked(
    source: str, functions: Collection[str], *, derivation: bool, solution: bool = False
) -> str:
    """Blank the bodies of functions; their signatures stay, and what only they use goes."""
    module = ast.parse(source)
    nodes = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    for name in functions:
        if name not in nodes:
            close = get_close_matches(name, nodes, 1)
            mend = f"write {close[0]}" if close else f"the file has {', '.join(nodes)}"
            raise unexpected("assignment", "a function to blank", name, mend)
    lines = source.splitlines()
    helpers = _only_used_by(module, functions)
    texts = {node.name: lines[node.lineno - 1 : node.end_lineno] for node in helpers}
    declared = [node for node in module.body if _is_declared(node, functions)]
    changed = [*helpers, *declared, *(nodes[name] for name in functions)]
    for node in sorted(changed, key=lambda node: -node.lineno):
        if not isinstance(node, ast.FunctionDef) or node in helpers:
            lines[node.lineno - 1 : node.end_lineno] = []
            continue
        first = node.body[0]
        docstring = ast.get_docstring(node)
        start = (first.end_lineno or 0) if docstring else first.lineno - 1
        indent = " " * first.col_offset
        body = textwrap.indent(BLANK, indent).splitlines()
        if solution:
            own = [line for name in _needs(node, helpers) for line in (*texts[name], "")]
            inside = textwrap.indent("\n".join(own), indent).splitlines()
            body = [indent + BEGIN, *inside, *lines[start : node.end_lineno], indent + END]
        lines[start : node.end_lineno] = body
        if docstring and not derivation:
            told = f'{indent}"""{_TOLD.get(node.name, _OTHER)}"""'
            lines[first.lineno - 1 : first.end_lineno] = [told]
    text = re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines))
    return text if derivation else _without_derivation(text)


def _only_used_by(module: ast.Module, blanks: Collection[str]) -> list[ast.FunctionDef]:
    """List the functions that only blanked ones use: they are half of the answer."""
    found: list[ast.FunctionDef] = []
    kept = {*blanks, *_TOLD, "advance"}
    while True:
        rest = [n for n in module.body if n not in found and not _is_declared(n, blanks)]
        functions = [n for n in rest if isinstance(n, ast.FunctionDef) and not n.decorator_list]
        # Of what is blanked, the signature stays.
        read = (n.args if isinstance(n, ast.FunctionDef) and n.name in blanks else n for n in rest)
        used = {name for node in read for name in _names(node)}
        more = [n for n in functions if n.name not in used | kept]
        if not more:
            return sorted(found, key=lambda node: node.lineno)
        found += more


def _needs(node: ast.FunctionDef, helpers: Sequence[ast.FunctionDef]) -> list[str]:
    """List the helpers that a function uses, and those that they use."""
    used = {*_names(node)}
    for _ in helpers:
        used |= {name for each in helpers if each.name in used for name in _names(each)}
    return [each.name for each in helpers if each.name in used]


def _is_declared(node: ast.stmt, blanks: Collection[str]) -> bool:
    """Return whether a statement declares what a blanked function reads."""
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and bool(call.args) and ast.unparse(call.args[0]) in blanks


def without_terms(source: str) -> str:
    """Cut out `terms`, which says the answer in another form, and its declaration."""
    module = ast.parse(source)
    lines = source.splitlines()
    calls = [each for each in ast.walk(module) if isinstance(each, ast.Call)]
    made = [each for each in module.body if isinstance(each, ast.FunctionDef | ast.Assign)]
    for node in sorted([*made, *calls], key=lambda each: each.lineno, reverse=True):
        place = slice(node.lineno - 1, node.end_lineno)
        if not isinstance(node, ast.Call):
            name = node.name if isinstance(node, ast.FunctionDef) else ast.unparse(node.targets[0])
            if name in _TERMS:
                lines[place] = []
        elif any(word.arg in _TERMS for word in node.keywords):
            node.keywords = [word for word in node.keywords if word.arg not in _TERMS]
            first, last = lines[place][0], lines[place][-1]
            call = ast.unparse(node).replace("'", '"')
            lines[place] = [first[: node.col_offset] + call + last[node.end_col_offset :]]
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join([*lines, ""]))


def _without_derivation(source: str) -> str:
    """Cut the derivation out of the file's docstring, up to what the cache is."""
    head, found, rest = source.partition("\nDerivation.")
    if not found:
        return source
    _, cache, tail = rest.partition("\nCache: ")
    return f"{head}\nCache: {tail}" if cache else source


def _is_check(name: str) -> bool:
    return name.lstrip("_").startswith("check")


def _names(node: ast.AST) -> Iterator[str]:
    return (inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name))


def nbgrader_notebook(
    name: str, source: str, blanks: Collection[str], setup: str, leaves: Collection[str]
) -> str:
    """Write the teacher's notebook of an assignment, from which nbgrader makes the student's."""
    pieces = _pieces(source, blanks)
    cells = [_code(code, _marked(of, solution=True) if of else None) for code, of in pieces]
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
