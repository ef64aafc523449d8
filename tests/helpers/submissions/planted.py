"""Mistakes planted in the lines of right code, one or two at once, and whether they are told.

`python -m helpers.submissions.planted`, run in `tests`, prints what the checker says of them.
"""

import ast
import re
from collections.abc import Iterator
from itertools import accumulate, chain, combinations
from random import Random
from types import FunctionType

import attrs
import numpy as np
import torch

import lincoln_fn as lf
from helpers.mutation.code import expressions
from helpers.mutation.mistakes import mutations, negations
from helpers.submissions.loops_dense import AFFINE
from helpers.submissions.loops_images import AVERAGE, conv
from helpers.submissions.loops_norms import BATCH_NORM, GROUP_NORM, SOFTMAX
from helpers.submissions.loops_sequences import LSTM, RNN
from helpers.submissions.strange import LAYERS
from helpers.submissions.submission import Change, Code, compiled, source

# Of each right submission, so many pairs of mutants.
PAIRS = 7


@attrs.frozen(eq=False)
class Planted:
    """Right code with changes in its backward."""

    code: Code
    changes: tuple[Change, ...] = ()

    def __str__(self) -> str:
        text = source(self.code.backward)
        told = (f"{text[start:end]} -> {new}" for start, end, new in self.changes)
        return f"{self.code.family} in {self.code.np.__name__}: {'; '.join(told)}"

    def report(self) -> lf.testing.Report:
        """Check it."""
        x, *params = self.code.arrays
        layer = self.code.layer(self.changes)
        return lf.testing.check_layer(layer, tuple(params), x, all=True)

    def lines(self) -> set[int]:
        """List the lines that are changed."""
        text = source(self.code.backward)
        return {text[:start].count("\n") + 1 for start, _, _ in self.changes}

    def is_told(self) -> bool:
        """Whether each wrong gradient has a relation, or all lines that make it wrong are named."""
        mistakes = self.report().mistakes
        return bool(mistakes) and all(map(self._is_told, mistakes))

    def _is_told(self, mistake: lf.testing.Finding) -> bool:
        place = 0 if mistake.leaf == "dx" else int(mistake.leaf.removeprefix("dparams.")) + 1
        right = gradients(Planted(self.code))[place]
        alone = [Planted(self.code, (change,)) for change in self.changes]
        wrong = (one for one in alone if not np.allclose(gradients(one)[place], right))
        named = map(int, re.findall(r"\bline (\d+)", mistake.sentence))
        lines = set().union(*(one.lines() for one in wrong))
        return mistake.name not in ("", "line") or (bool(lines) and lines <= {*named})


def mutants(function: FunctionType) -> Iterator[Change]:
    """Make every change of an expression that gradients pass through."""
    text = source(function)
    starts = [0, *accumulate(map(len, text.splitlines(keepends=True)))]
    for node, parent, role in expressions(ast.parse(text).body[0]):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        for _, new in chain(mutations(node, role), negations(node, parent)):
            yield start, end, f"({ast.unparse(new)})"


def gradients(planted: Planted) -> list[np.ndarray] | None:
    """Run a backward in numpy; None if it raises."""
    code, rng = planted.code, np.random.default_rng(0)
    arrays = [a.double().numpy().copy() for a in code.arrays]
    try:
        *ys, cache = code.forward(*arrays, **code.options)
        gs = [rng.normal(size=y.shape) for y in ys]
        given = compiled(code.backward, planted.changes, np)(*gs, cache)
    except Exception:  # a mutant raises anything, warnings too
        return None
    return list(given) if isinstance(given, tuple) else [given]


def pairs_of(code: Code) -> list[Planted]:
    """Choose pairs of mutants, in two lines, that each change the gradients and keep shapes."""
    right, chosen, seen = gradients(Planted(code)), [], {}

    def shows(*changes: Change) -> bool:
        if changes not in seen:
            given = gradients(Planted(code, changes))
            fits = given is not None and [a.shape for a in given] == [a.shape for a in right]
            seen[changes] = fits and not all(map(np.allclose, given, right))
        return seen[changes]

    every = list(mutants(code.backward))
    rng = Random(0)
    while len(chosen) < PAIRS:
        pair = tuple(rng.sample(every, 2))
        planted = Planted(code, pair)
        if len(planted.lines()) == 2 and shows(pair[0]) and shows(pair[1]) and shows(*pair):
            chosen.append(planted)
    return chosen


BASES = (AFFINE, BATCH_NORM, GROUP_NORM, SOFTMAX, RNN, LSTM, conv(), AVERAGE)
STRANGE = [(attrs.evolve(code, np=own), changes)
    for code, changes in LAYERS for own in (np, torch)]  # fmt: skip
RIGHT = [Planted(code) for code, _ in STRANGE]


def strange(at_once: int) -> list[Planted]:
    """List the strange layers with mistakes of their table, so many at once."""
    return [
        Planted(code, code.places(dict(some)))
        for code, changes in STRANGE
        for some in combinations(changes.items(), at_once)
    ]


def twice() -> list[Planted]:
    """List pairs of mutants of right submissions."""
    return [planted for base in BASES for planted in pairs_of(base)]


if __name__ == "__main__":
    for what, rows in {"one": strange(1), "two": strange(2), "mutants": twice()}.items():
        for row in rows:
            print(row, *(f"    {mistake}" for mistake in row.report().mistakes), sep="\n")
        print(what, sum(row.is_told() for row in rows), "of", len(rows))
