"""The mistakes: what is put in the place of an expression, and the file that this makes."""

import ast
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import attrs

from helpers.mutation.code import PACKAGE, expressions, is_record

ELEMENTWISE = frozenset(
    [
        *("abs", "add", "addcmul", "clamp", "div", "exp", "expm1", "flip", "log", "log1p", "mul"),
        *("masked_fill", "neg", "pow", "reciprocal", "sigmoid", "sign", "sqrt", "square", "sub"),
        *("tanh", "add_", "div_", "exp_", "expm1_", "masked_fill_", "mul_", "neg_", "sub_"),
    ]
)
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE), ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
OTHER_METHOD = {
    "sum": ("reduction", "mean"), "mean": ("reduction", "sum"), "add_": ("sign", "sub_"),
    "sub_": ("sign", "add_"),
}  # fmt: skip
PRODUCTS = (ast.Mult, ast.Div, ast.MatMult)
NOT_NEGATED = (
    *(ast.Constant, ast.Attribute, ast.UnaryOp, ast.IfExp, ast.BoolOp, ast.Compare),
    *(ast.Tuple, ast.List, ast.GeneratorExp, ast.ListComp, ast.Starred, ast.keyword),
)


@attrs.frozen
class Mutant:
    """A file of the package with one mistake in it.

    Args:
        path: the file.
        name: the line and the kind, such as "layers/gelu.py:57 sign #3".
        diff: the line, with what was there and what is there now in braces.
        source: the whole file.
    """

    path: Path
    name: str
    diff: str
    source: bytes


def mutants_of(path: Path, functions: list[ast.AST]) -> Iterator[Mutant]:
    """Make every mutant of some functions of a file."""
    source = path.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    counts: Counter[tuple[int, str]] = Counter()
    seen = set()
    for function in functions:
        for node, parent, role in expressions(function):
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            for kind, new in chain(mutations(node, role), negations(node, parent)):
                text = ast.unparse(new)
                if (start, end, text) in seen:
                    continue
                seen.add((start, end, text))
                counts[node.lineno, kind] += 1
                count = counts[node.lineno, kind]
                first, last = starts[node.lineno - 1], starts[node.end_lineno]
                yield Mutant(
                    path,
                    f"{path.relative_to(PACKAGE)}:{node.lineno} {kind} #{count}",
                    _in_one_line(source[first:start], source[start:end], text, source[end:last]),
                    source[:start] + f"({text})".encode() + source[end:],
                )


def _in_one_line(before: bytes, was: bytes, text: str, after: bytes) -> str:
    line = f"{before.decode()}{{{was.decode()} -> {text}}}{after.decode()}"
    return " ".join(line.split())


def mutations(node: ast.expr, role: str) -> Iterator[tuple[str, ast.expr]]:
    """Give the kinds of mistake at one expression, and what each puts in its place."""
    number = as_number(node)
    match node:
        case _ if number is not None:
            yield from _other_numbers(number, role)
        case ast.Constant(bool() as flag) if flag or role in ("argument", "axis"):
            yield "constant", ast.Constant(not flag)
        case ast.BinOp(a, ast.Add(), b):
            yield "sign", ast.BinOp(a, ast.Sub(), b)
            yield from (("term", a), ("term", b))
        case ast.BinOp(a, ast.Sub(), b):
            yield "sign", ast.BinOp(a, ast.Add(), b)
            yield "operand", ast.BinOp(b, ast.Sub(), a)
            yield from (("term", a), ("term", ast.UnaryOp(ast.USub(), b)))
        case ast.BinOp(a, ast.Div() | ast.FloorDiv() as over, b):
            yield "operand", ast.BinOp(b, over, a)
            yield "term", a
        case ast.BinOp(a, ast.MatMult(), b):
            yield "transposed", ast.BinOp(b, ast.MatMult(), a)
        case ast.BinOp(a, ast.Pow(), b):
            yield "term", a
        case ast.BinOp(a, _, b) | ast.BoolOp(_, [a, b]):
            yield from (("term", a), ("term", b))
        case ast.UnaryOp(_, a):
            yield "sign", a
        case ast.Compare(a, [comparison], [b]):
            for other in COMPARISONS[type(comparison)]:
                yield "comparison", ast.Compare(a, [other()], [b])
        case ast.Attribute(a, "mT"):
            yield "transposed", a
        case ast.Call():
            yield from _other_calls(node)
    if role == "end" and number is None:
        for step in (ast.Add(), ast.Sub()):
            yield "index", ast.BinOp(node, step, ast.Constant(1))


def _other_numbers(number: float, role: str) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(number, float) or role == "value":
        yield "constant", ast.Constant(number + 1)
    else:
        kind = "reduction" if role == "axis" else "index"
        yield from ((kind, ast.Constant(number + 1)), (kind, ast.Constant(number - 1)))


def _other_calls(call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    keywords = call.keywords
    match call:
        case ast.Call(ast.Attribute(ast.Name("torch"), "where"), [_, a, b]):
            yield from (("term", a), ("term", b))
        case ast.Call(ast.Attribute(ast.Attribute(_, "aten"), _) as kernel, [a, b, *rest]):
            yield "term", a
            yield "operand", ast.Call(kernel, [b, a, *rest], keywords)
        case ast.Call(ast.Attribute(ast.Name("torch"), name), [a, *_]) if name in ELEMENTWISE:
            yield "term", a
        case ast.Call(ast.Attribute(a, name)) if name in ELEMENTWISE:
            yield "term", a
        case ast.Call(ast.Attribute(a, "transpose" | "permute")):
            yield "transposed", a
    match call:
        case ast.Call(ast.Attribute(a, name), arguments) if name in OTHER_METHOD:
            kind, other = OTHER_METHOD[name]
            yield kind, ast.Call(ast.Attribute(a, other), arguments, keywords)


def negations(node: ast.expr, parent: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Put a minus before what is returned and before products, where no other mistake does."""
    is_product = isinstance(node, ast.BinOp) and isinstance(node.op, PRODUCTS)
    match parent:
        case ast.Return():
            pass
        case ast.BinOp(a, op) if isinstance(op, PRODUCTS) or node is not a:
            return
        case ast.UnaryOp() | ast.Slice() | ast.Subscript():
            return
        case _ if not is_product:
            return
    first = node
    while isinstance(first, ast.BinOp) and isinstance(first.op, PRODUCTS):
        first = first.left
    is_difference = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub)
    is_zero = isinstance(node, ast.Call) and "zeros" in ast.unparse(node.func)
    if not (is_difference or is_zero or isinstance(first, NOT_NEGATED) or is_record(node)):
        yield "sign", ast.UnaryOp(ast.USub(), node)


def as_number(node: ast.AST) -> float | None:
    """Give the number that stands there, if one does."""
    match node:
        case ast.Constant(bool()):
            return None
        case ast.Constant(int() | float() as number):
            return number
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as number)):
            return -number
    return None
