"""Read the file of a layer or a loss: its docstring, its definitions, and what they use.

Nothing is imported: the pages show the source as it is written.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from formula_tokens import OPERATORS, RELATIONS, TEXT

SOURCE: Final = Path(__file__).parents[2] / "src/lincoln_fn"
MADE: Final = {"layers": "Layer", "losses": "Loss"}  # by package, what a constructor returns
BOTH_WAYS: Final = ("Params", "Cache", "forward", "backward")
REMARK: Final = re.compile(r" {4,}")  # between a formula and the remark on its line
NOT_NAMES: Final = {*RELATIONS, *OPERATORS, *TEXT}


class Definition(NamedTuple):
    """A function, a class or an assignment at the top of a file."""

    name: str
    code: str
    uses: frozenset[tuple[str, str]]  # (path of a file, name)
    returns: str
    keywords: frozenset[str]


class Paragraph(NamedTuple):
    """A piece of a docstring: sentences, or the lines of an indented block of formulas."""

    is_formulas: bool
    lines: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The words of several letters in formulas."""
        formulas = "\n".join(REMARK.split(line)[0] for line in self.lines if self.is_formulas)
        return frozenset(re.findall(r"[A-Za-z]{2,}", formulas)) - NOT_NAMES


class File(NamedTuple):
    """A file: its path, such as "layers/relu", its docstring, its definitions in their order."""

    path: str
    docstring: tuple[Paragraph, ...]
    definitions: dict[str, Definition]
    imports: dict[str, tuple[str, str]]  # by name here, (path of a file, name)

    @property
    def name(self) -> str:
        """The file's name, without its ending."""
        return self.path.rpartition("/")[2]

    @property
    def constructors(self) -> list[str]:
        """The public functions that return a layer, or a loss."""
        made = MADE[self.path.partition("/")[0]]
        public = (d for d in self.definitions.values() if not d.name.startswith("_"))
        return [definition.name for definition in public if definition.returns == made]

    @property
    def families(self) -> list[str]:
        """The private functions that several constructors are made of, such as `_conv_nd`."""
        return [key for key in self.definitions if key.endswith("_nd")]

    @property
    def names(self) -> frozenset[str]:
        """The words of the docstring's formulas, and the hyperparameters."""
        forward = self.definitions.get("forward")
        words = [part.names for part in self.docstring]
        return frozenset(forward.keywords if forward else ()).union(*words)


def paths(package: str) -> list[str]:
    """Return the paths of a package's files that have a constructor, in alphabetical order.

    Args:
        package: "layers" or "losses".

    Returns:
        Paths such as "layers/relu".
    """
    files = sorted(path.stem for path in (SOURCE / package).glob("[a-z]*.py"))
    return [path for name in files if read(path := f"{package}/{name}").constructors]


@cache
def read(path: str) -> File:
    """Read a file.

    Args:
        path: such as "layers/relu".

    Returns:
        What it holds.
    """
    source = (SOURCE / f"{path}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    imported = dict(_imports(tree))
    top = {name: node for node in tree.body for name in defined(node)}
    definitions = {}
    for key, node in top.items():
        uses = frozenset(_uses(node, path, top, imported))
        is_function = isinstance(node, ast.FunctionDef)
        returns = ast.unparse(node.returns) if is_function and node.returns else ""
        if family := made_of(node):  # of each constructor that it makes
            returns = definitions[family].returns
        keywords = frozenset(a.arg for a in node.args.kwonlyargs) if is_function else frozenset()
        definitions[key] = Definition(key, _code(source, node), uses, returns, keywords)
    docstring = tuple(paragraphs(ast.get_docstring(tree) or ""))
    return File(path, docstring, definitions, imported)


def made_of(node: ast.stmt) -> str:
    """Name the family in `conv1d, conv2d, conv3d = over_axes(_conv_nd)`; "" elsewhere."""
    value = node.value if isinstance(node, ast.Assign) else None
    if isinstance(value, ast.Call) and ast.unparse(value.func).endswith("over_axes"):
        return ast.unparse(value.args[0])
    return ""


def paragraphs(docstring: str) -> Iterator[Paragraph]:
    """Cut a docstring into paragraphs.

    Args:
        docstring: without indentation.

    Yields:
        Its paragraphs; a block that is indented by four spaces is one of formulas.
    """
    for text in re.split(r"\n\s*\n", docstring.strip("\n")):
        lines = text.split("\n")
        is_formulas = all(line.startswith("    ") for line in lines)
        yield Paragraph(is_formulas, tuple(line[4:] if is_formulas else line for line in lines))


def reachable(path: str, start: tuple[str, ...]) -> dict[str, list[str]]:
    """Find what some definitions of a file call, in this file and in the shared ones it imports.

    Args:
        path: the file's.
        start: definitions of the file; those it does not have are passed over.

    Returns:
        By path, the names of the definitions in the file's order, those of `start` among them.
    """
    found: set[tuple[str, str]] = set()
    waiting = [(path, key) for key in start]
    while waiting:
        file, key = waiting.pop()
        is_shown = file == path or "/common/" in file
        if (file, key) in found or not is_shown or key not in read(file).definitions:
            continue
        found.add((file, key))
        waiting += read(file).definitions[key].uses
    files = sorted({file for file, _ in found}, key=lambda file: (file != path, file))
    return {file: [key for key in read(file).definitions if (file, key) in found] for file in files}


def _imports(tree: ast.Module) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield what comes from the packages of layers and losses: a name of a file, or a file."""
    for node in tree.body:
        root, *path = (node.module or "").split(".") if isinstance(node, ast.ImportFrom) else [""]
        if root != "lincoln_fn" or not path or path[0] not in MADE:
            continue
        home = "/".join(path)
        is_file = (SOURCE / f"{home}.py").exists()
        for alias in node.names:
            imported = (home, alias.name) if is_file else (f"{home}/{alias.name}", "")
            yield alias.asname or alias.name, imported


def _uses(
    node: ast.stmt, path: str, top: dict[str, ast.stmt], imported: dict[str, tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    for used in ast.walk(node):
        if isinstance(used, ast.Attribute) and isinstance(used.value, ast.Name):
            file, member = imported.get(used.value.id, ("", ""))
            if file and not member:
                yield file, used.attr
        elif isinstance(used, ast.Name) and used.id in top:
            yield path, used.id
        elif isinstance(used, ast.Name) and imported.get(used.id, ("", ""))[1]:
            yield imported[used.id]


def defined(node: ast.stmt) -> list[str]:
    """List the names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        targets = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets
        return [target.id for target in targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def _code(source: str, node: ast.stmt) -> str:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])
    lines = source.split("\n")
    while lines[first - 2].startswith("#"):
        first -= 1
    return "\n".join(lines[first - 1 : node.end_lineno])
