"""Make what the page "Prove a gradient" loads: Pyodide, numpy, the exact numbers and their judge.

The only Pyodide with numpy in a package registry is of Python 3.8. What newer versions of Python
alone can read is written for it in the older way.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import packed

EXACT: Final = "lincoln_fn/testing/exact"
MODULES: Final = "field", "numbers", "rules", "arrays"
HERE: Final = Path(__file__).parent

# Its licenses are in assets/LICENSES.txt.
PACKAGE, VERSION = "@pyodide/pyodide", "0.17.1"
SHA512: Final = (
    "54278b190f4da7276254d5224d67b16447c4ad0aaaa3423cd39d29e6e4f11d19"
    "662388c0d5c5edd16391de9ab95a3382b40a640824f8a95d697abd6730e62817"
)
PYODIDE: Final = (
    "pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm", "pyodide.asm.data", "numpy.js",
    "numpy.data",
)  # fmt: skip


class Older(ast.NodeTransformer):
    """Writes code for Python 3.8."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Drop `strict`, and write `A | B` as `(A, B)` for `isinstance`."""
        self.generic_visit(node)
        node.keywords = [each for each in node.keywords if each.arg != "strict"]
        if isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            node.args[1] = ast.Tuple(list(_parts(node.args[1])), ast.Load())
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Drop what types stand for: annotations are not run."""
        if isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias":
            return ast.Assign([node.target], ast.Constant(None), lineno=node.lineno)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        """Drop what is for types."""
        node.names = [each for each in node.names if each.name != "TypeAlias"]
        return node if node.names else None


def _parts(kind: ast.expr) -> Iterator[ast.expr]:
    if isinstance(kind, ast.BinOp):
        yield from _parts(kind.left)
        yield from _parts(kind.right)
    else:
        yield kind


def older(source: str) -> str:
    """Write a module for Python 3.8."""
    return ast.unparse(ast.fix_missing_locations(Older().visit(ast.parse(source))))


def sources() -> dict[str, str]:
    """Give the modules that the page runs, by path."""
    src = HERE.parents[1] / "src"
    files = {f"{EXACT}/{name}.py": src / f"{EXACT}/{name}.py" for name in MODULES}
    files |= {f"{name}.py": HERE / f"{name}.py" for name in ("numpy_trial", "numpy_judge")}
    return {path: older(file.read_text("utf-8")) for path, file in files.items()}


def contents() -> Iterator[tuple[str, bytes]]:
    """Give the worker, the modules and, with npm and network, Pyodide."""
    yield "worker", (HERE.parent / "assets/judge/worker.js").read_bytes()
    yield "modules", json.dumps(sources()).encode()
    found = packed.from_npm(PACKAGE, VERSION, SHA512, [f"package/dist/{name}" for name in PYODIDE])
    yield from zip(PYODIDE, found, strict=False)


on_files = packed.hook("judge", contents)
