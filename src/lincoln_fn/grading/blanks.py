"""A layer's file with the bodies of some functions blanked."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Final

from lincoln_fn.core import LayerError

# What a function that nobody has written yet does: nbgrader's own words.
BLANK = "# YOUR CODE HERE\nraise NotImplementedError()"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
_PASS = ("backward", "input_grad", "grads", "back", "gather")


def backward_pass(source: str) -> tuple[str, ...]:
    """List the functions of a file that make up its backward pass."""
    # They are `backward`, `input_grad` and `grads`; those with "backward" in their names; and the
    # private helpers that only these use. Checks of arguments are not among them.
    module = ast.parse(source)
    functions = {
        node.name: node
        for node in module.body
        if isinstance(node, ast.FunctionDef)
        and "constructor" not in map(ast.unparse, node.decorator_list)
    }
    uses = {node: set(_names(node)) for node in module.body}
    found = {n for n in functions if n in _PASS or ("backward" in n and not _is_check(n))}

    def helpers() -> set[str]:
        rest = [names for node, names in uses.items() if getattr(node, "name", "") not in found]
        used = set().union(*(uses[functions[name]] for name in found)) - found.union(*rest)
        return {n for n in functions if n in used and n[0] == "_" and not _is_check(n)}

    while more := helpers():
        found |= more
    return tuple(name for name in functions if name in found)


def blanked(
    source: str, functions: Collection[str], *, derivation: bool = True, solution: bool = False
) -> str:
    """Blank the bodies of functions; their signatures stay."""
    module = ast.parse(source)
    nodes = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    for name in functions:
        if name not in nodes:
            close = get_close_matches(name, nodes, 1)
            mend = f"write {close[0]}" if close else f"the file has {', '.join(nodes)}"
            raise LayerError("assignment", f"expected a function to blank, got {name}; {mend}")
    lines = source.splitlines()
    for node in sorted((nodes[name] for name in functions), key=lambda node: -node.lineno):
        first = node.body[0]
        docstring = ast.get_docstring(node)
        start = (first.end_lineno or 0) if docstring else first.lineno - 1
        indent = " " * first.col_offset
        body = textwrap.indent(BLANK, indent).splitlines()
        if solution:
            body = [indent + BEGIN, *lines[start : node.end_lineno], indent + END]
        lines[start : node.end_lineno] = body
        if docstring and not derivation:
            lines[first.lineno - 1 : first.end_lineno] = [f'{indent}"""Compute the gradients."""']
    text = "\n".join(lines)
    return text if derivation else _without_derivation(text)


_TERMS: Final = ("terms", "dx_and_terms")


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
