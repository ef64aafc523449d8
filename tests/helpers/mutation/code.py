"""The code that gradients pass through, and what in it enters values."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[3] / "src" / "lincoln_fn"

# Where gradients begin: functions named so, or whose names end so. What `count` gives is what a
# loss's mean divides by.
GRADIENTS = frozenset(["backward", "grads", "grad", "count"])


def gradient_code(paths: list[Path]) -> dict[Path, list[ast.AST]]:
    """Find the code that gradients pass through: GRADIENTS, and all they call in these files.

    The constants of a module that this code reads are taken too.
    """
    modules = {path: Module(path) for path in paths}
    todo = [(path, root) for path, module in modules.items() for root in module.gradients()]
    found: dict[Path, list[ast.AST]] = {path: [] for path in paths}
    while todo:
        path, code = todo.pop()
        if code not in found[path]:
            found[path].append(code)
            own = _names_set(code)
            for node, _, _ in expressions(code):
                place, name = modules[path].resolve(node)
                if place in modules and name not in own:
                    todo += [(place, definition) for definition in modules[place].defined[name]]
    for code in found.values():
        code.sort(key=lambda node: node.lineno)
    return found


class Module:
    """What a file defines and imports."""

    def __init__(self, path: Path) -> None:
        self.path, self.tree = path, ast.parse(path.read_bytes())
        self.defined: dict[str, list[ast.AST]] = defaultdict(list)
        self.imported: dict[str, tuple[str, str]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef):
                self.defined[node.name].append(node)
        for node in self.tree.body:
            match node:
                case ast.Assign([ast.Name(name)]) | ast.AnnAssign(ast.Name(name), value=ast.expr()):
                    self.defined[name].append(node)
                case ast.ImportFrom(module, names):
                    for alias in names:
                        self.imported[alias.asname or alias.name] = (module, alias.name)

    def gradients(self) -> Iterator[ast.AST]:
        """Give the functions where gradients begin."""
        for node in ast.walk(self.tree):
            match node:
                case ast.FunctionDef(name) if name.split("_")[-1] in GRADIENTS:
                    yield node

    def resolve(self, node: ast.expr) -> tuple[Path | None, str]:
        """Give the file and the name there that a name refers to, as far as the text tells."""
        match node:
            case ast.Name(name) if name in self.imported:
                module, name = self.imported[name]
            case ast.Name(name):
                return self.path, name
            case ast.Attribute(ast.Name(name), attribute) if name in self.imported:
                module, name = ".".join(self.imported[name]), attribute
            case _:
                return None, ""
        return PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py"), name


def expressions(
    node: ast.AST, parent: ast.AST | None = None, role: str = "value"
) -> Iterator[tuple[ast.expr, ast.AST, str]]:
    """Walk the expressions that enter values, each with its parent and its role.

    The role tells what a number there is: a "value", an "index", an "end" of a slice, an
    "argument" of a call or the "axis" of a reduction. Checks and what only they read are left out.
    """
    if is_check(node):
        return
    if isinstance(node, ast.expr) and parent is not None:
        yield node, parent, role
    # What is returned may stand in a tuple, a record or a branch.
    within = parent if isinstance(parent, ast.Return) else node
    match node:
        case ast.JoinedStr() | ast.keyword(arg="strict") | ast.UnaryOp(ast.USub(), ast.Constant()):
            return
        case ast.FunctionDef(body=body):
            used = set(_names_read(body))
            parts = [(part, "value") for part in body if _is_read(part, used)]
        case ast.Lambda(body=value):
            within, parts = ast.Return(value), [(value, "value")]
        case ast.Assign(value=value) | ast.AnnAssign(value=value):
            parts = [(value, "value")]
        case ast.Subscript(value, index):
            within, parts = node, [(value, "value"), (index, "index")]
        case ast.Slice(lower, upper, step):
            within, parts = node, [(lower, "end"), (upper, "end"), (step, "index")]
        case ast.Call(func, arguments, keywords):
            is_sum = isinstance(func, ast.Attribute) and func.attr in ("sum", "mean")
            kind = "axis" if is_sum else "argument"
            within = within if is_record(node) else node
            parts = [(func, "value"), *((part, kind) for part in (*arguments, *keywords))]
        case ast.IfExp(test, a, b):
            yield from expressions(test, node)
            parts = [(a, role), (b, role)]
        case ast.Tuple() | ast.List() | ast.keyword() | ast.Starred():
            parts = [(part, role) for part in ast.iter_child_nodes(node)]
        case ast.BinOp(a, _, b):
            within, kind = node, "index" if role in ("index", "end") else "value"
            parts = [(a, kind), (b, kind)]
        case _:
            within, parts = node, [(part, "value") for part in ast.iter_child_nodes(node)]
    for part, kind in parts:
        if part is not None:
            yield from expressions(part, within, kind)


def is_check(node: ast.AST) -> bool:
    """Whether a node checks an argument, or raises an error, or says something."""
    match node:
        case ast.If(body=[*_, ast.Raise()]) | ast.Raise() | ast.Assert():
            return True
        case ast.Expr(ast.Constant()):
            return True
        case ast.Expr(ast.Call(ast.Name(name) | ast.Attribute(attr=name))):
            return name.lstrip("_").startswith("check")
    return False


def is_record(node: ast.AST) -> bool:
    """Whether a name or a call stands for a record or a tuple, going by what it is called."""
    match node:
        case ast.Name(name) | ast.Call(ast.Name(name)):
            return name[0].isupper() or name == "tuple" or name.endswith("params")
    return False


def _names_read(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case _ if is_check(node):
                pass
            case ast.Name(name):
                yield name
            case ast.Assign(value=value) | ast.AnnAssign(value=value) | ast.AugAssign(value=value):
                yield from _names_read([value])
            case _:
                yield from _names_read(list(ast.iter_child_nodes(node)))


def _names_set(code: ast.AST) -> set[str]:
    """List the names that a function sets itself: they mean nothing defined elsewhere."""
    names = (node for node in ast.walk(code) if isinstance(node, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Store)}


def _is_read(statement: ast.AST, used: set[str]) -> bool:
    """Whether a statement does more than set names that nothing reads."""
    match statement:
        case ast.Assign(targets=targets):
            pass
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            targets = [target]
        case _:
            return True
    written = {
        part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)
    }
    return not used.isdisjoint(written)
