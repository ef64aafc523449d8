"""Mistakes planted in the lines of right code, one or two at once, and whether they are told.

`python -m helpers.submissions.planted`, run in `tests`, prints what the checker says of them.
"""

import ast
import inspect
import linecache
import re
from collections.abc import Iterator, Mapping
from itertools import accumulate, chain, combinations, count
from random import Random
from textwrap import dedent
from types import FunctionType
from typing import Any

import attrs
import numpy as np
import torch

import lincoln_fn as lf
from helpers.mutation.code import expressions
from helpers.mutation.mistakes import mutations, negations
from helpers.submissions import loops_norms as norms
from helpers.submissions.loops_dense import B, W, X, affine, affine_forward
from helpers.submissions.loops_images import average, average_forward, conv, conv_forward
from helpers.submissions.loops_sequences import lstm, lstm_forward, rnn, rnn_forward
from helpers.submissions.strange import LAYERS
from helpers.submissions.submission import normal

# Of each right submission, so many pairs of mutants.
PAIRS = 7
_FILES = count()
# Where text of a function begins and ends, and what takes its place.
Change = tuple[int, int, str]


@attrs.frozen(eq=False)
class Planted:
    """A right layer with changes in its backward."""

    forward: FunctionType
    backward: FunctionType
    arrays: tuple[torch.Tensor, ...]
    changes: tuple[Change, ...]
    options: Mapping[str, Any] = attrs.field(factory=dict)
    np: Any = np

    def __str__(self) -> str:
        text = source(self.backward)
        told = (f"{text[start:end]} -> {new}" for start, end, new in self.changes)
        return f"{self.forward.__name__} in {self.np.__name__}: {'; '.join(told)}"

    def report(self) -> lf.testing.Report:
        """Check it."""
        forward = compiled(self.forward, (), self.np)
        backward = compiled(self.backward, self.changes, self.np)

        def run_back(params, cache, g):
            dx, *dparams = backward(g, cache)
            return dx, tuple(dparams)

        made = lf.Layer("mine()", lambda params, x: forward(x, *params), run_back)
        if self.np is np:
            made = lf.testing.from_numpy(forward, backward, **self.options)
        x, *params = self.arrays
        return lf.testing.check_layer(made, tuple(params), x, all=True)

    def lines(self) -> set[int]:
        """List the lines that are changed."""
        return {source(self.backward)[:start].count("\n") + 1 for start, _, _ in self.changes}

    def is_told(self) -> bool:
        """Whether each wrong gradient has a relation, or all lines that make it wrong are named."""
        mistakes = self.report().mistakes
        return bool(mistakes) and all(map(self._is_told, mistakes))

    def _is_told(self, mistake: lf.testing.Finding) -> bool:
        place = 0 if mistake.leaf == "dx" else int(mistake.leaf.removeprefix("dparams.")) + 1
        right = gradients(attrs.evolve(self, changes=()))[place]
        alone = [attrs.evolve(self, changes=(change,)) for change in self.changes]
        wrong = (one for one in alone if not np.allclose(gradients(one)[place], right))
        named = map(int, re.findall(r"\bline (\d+)", mistake.sentence))
        lines = set().union(*(one.lines() for one in wrong))
        return mistake.name not in ("", "line") or (bool(lines) and lines <= {*named})


def source(function: FunctionType) -> str:
    """Return the text of a function."""
    return dedent(inspect.getsource(function))


def compiled(function: FunctionType, changes: tuple[Change, ...], own_np: Any) -> FunctionType:
    """Make a function anew, with changes in its text."""
    text = source(function)
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    file = f"<{function.__name__} {next(_FILES)}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    scope = {**function.__globals__, **inspect.getclosurevars(function).nonlocals, "np": own_np}
    exec(compile(text, file, "exec"), scope)
    return scope[function.__name__]


def replaced(function: FunctionType, old: str, new: str) -> Change:
    """Make the change of a piece of text that a function has once."""
    start = source(function).index(old)
    return start, start + len(old), new


def mutants(function: FunctionType) -> Iterator[Change]:
    """Make every change of an expression that gradients pass through."""
    text = source(function)
    starts = [0, *accumulate(map(len, text.splitlines(keepends=True)))]
    for node, parent, role in expressions(ast.parse(text).body[0]):
        # What chooses a mistake of the tables is no code of theirs.
        if {"m", "mistake"} & {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}:
            continue
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        for _, new in chain(mutations(node, role), negations(node, parent)):
            yield start, end, f"({ast.unparse(new)})"


def gradients(planted: Planted) -> list[np.ndarray] | None:
    """Run a backward in numpy; None if it raises."""
    arrays = [a.double().numpy().copy() for a in planted.arrays]
    rng = np.random.default_rng(0)
    try:
        *ys, cache = planted.forward(*arrays, **planted.options)
        gs = [rng.normal(size=y.shape) for y in ys]
        given = compiled(planted.backward, planted.changes, np)(*gs, cache)
    except Exception:  # a mutant raises anything, warnings too
        return None
    return list(given) if isinstance(given, tuple) else [given]


def pairs_of(base: Planted) -> list[Planted]:
    """Choose pairs of mutants, in two lines, that each change the gradients and keep shapes."""
    right, chosen, seen = gradients(base), [], {}

    def shows(*changes: Change) -> bool:
        if changes not in seen:
            given = gradients(attrs.evolve(base, changes=changes))
            fits = given is not None and [a.shape for a in given] == [a.shape for a in right]
            seen[changes] = fits and not all(map(np.allclose, given, right))
        return seen[changes]

    every = list(mutants(base.backward))
    rng = Random(0)
    while len(chosen) < PAIRS:
        pair = tuple(rng.sample(every, 2))
        planted = attrs.evolve(base, changes=pair)
        if len(planted.lines()) == 2 and shows(pair[0]) and shows(pair[1]) and shows(*pair):
            chosen.append(planted)
    return chosen


BASES = [
    Planted(affine_forward, affine(""), (X, W, B), ()),
    Planted(norms.norm_forward, norms.norm(""), (normal(6, 3), norms.GAMMA, norms.BETA), (),
        {"axis": 0, "eps": 1e-5}),
    Planted(norms.group_forward, norms.group(""), (normal(2, 4, 3, 2), normal(1, 4, 1, 1, seed=5),
        normal(1, 4, 1, 1, seed=6)), (), {"groups": 2}),
    Planted(norms.softmax_forward, norms.softmax(""), (normal(4, 5),), ()),
    Planted(rnn_forward, rnn(""), (normal(2, 4, 4), normal(2, 3, seed=1), normal(4, 3, seed=2),
        normal(3, 3, seed=3), B), ()),
    Planted(lstm_forward, lstm(""), (normal(3, 4), normal(3, 2, seed=1), normal(3, 2, seed=2),
        normal(4, 8, seed=3), normal(2, 8, seed=4), normal(8, seed=5)), ()),
    Planted(conv_forward, conv(""), (normal(2, 2, 6, 5), normal(3, 2, 3, 2, seed=1),
        normal(3, seed=2)), (), {"stride": 1, "pad": 1}),
    Planted(average_forward, average(""), (normal(2, 2, 5, 6),), (), {"size": 2, "stride": 1}),
]  # fmt: skip
RIGHT = [
    Planted(forward, backward, arrays, (), np=own)
    for forward, backward, arrays, _ in LAYERS for own in (np, torch)
]  # fmt: skip


def strange(at_once: int) -> list[Planted]:
    """List the strange layers with mistakes of their table, so many at once."""
    return [
        Planted(
            forward, backward, arrays, tuple(replaced(backward, *pair) for pair in some), np=own
        )
        for forward, backward, arrays, changes in LAYERS
        for some in combinations(changes, at_once)
        for own in (np, torch)
    ]


def twice() -> list[Planted]:
    """List pairs of mutants of right submissions."""
    return [planted for base in BASES for planted in pairs_of(base)]


if __name__ == "__main__":
    for what, rows in {"one": strange(1), "two": strange(2), "mutants": twice()}.items():
        for row in rows:
            print(row, *(f"    {mistake}" for mistake in row.report().mistakes), sep="\n")
        print(what, sum(row.is_told() for row in rows), "of", len(rows))
