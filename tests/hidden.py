"""Drop one factor from each layer's backward: does the checker object at initial params?

    python tests/hidden.py            every row of the table of cases, every leaf: some minutes
    python tests/hidden.py --every 9  each ninth row

A factor is dropped if backward reads 1 in place of a leaf of its params, and a term if it reads 0.
At initial params, where scales are 1 and biases 0, some of these mistakes change nothing. The suite
runs a few rows.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs
import torch
from helpers.cases import CASES
from helpers.cases.case import Case
from helpers.cases.normalisation import varied_init

import lincoln_fn as lf
from lincoln_fn import keys, tree
from lincoln_fn.testing import GradientError, blame, check_layer
from lincoln_fn.testing.hypotheses import Mistake
from lincoln_fn.testing.sample import doubled, random_like

# Of a composition of more leaves, only what is right at initial params: its parts are rows, too.
LEAVES = 8


@attrs.frozen(eq=False)
class Mutant:
    """A layer whose backward reads `fill` in place of a leaf of its params."""

    case: Case
    params: Any
    x: Any
    leaf: int
    fill: float

    def __str__(self) -> str:
        path = tree.paths(self.params, states=True)[self.leaf]
        return f"{self.case}: {self.fill:g} for {path}"

    @property
    def layer(self) -> lf.Layer:
        return self.case.layer.replace(backward=self.backward)

    def backward(self, params: Any, cache: Any, g: Any) -> Any:
        count = iter(range(sys.maxsize))
        read = tree.map(
            lambda p: torch.full_like(p, self.fill) if next(count) == self.leaf else p,
            params,
            states=True,
        )
        return self.case.layer.backward(read, cache, g)

    def is_wrong(self, params: Any) -> bool:
        """Compare the gradients with those of the layer."""
        y, cache = self.case.layer.forward(params, self.x)
        g = random_like(y, lf.Key(9))
        try:
            given = self.backward(params, cache, g)
        except lf.LayerError:  # backward refuses these params, and says so
            return False
        right = self.case.layer.backward(params, cache, g)
        pairs = zip(tree.leaves(given), tree.leaves(right), strict=True)
        return not all(
            bool(((a - b).abs() <= 1e-3 * b.abs().max() + 1e-12).all()) for a, b in pairs
        )

    def is_caught(self) -> bool:
        """Return whether the checker objects at initial params."""
        try:
            check_layer(self.layer, self.params, self.x, predict_is_forward=False)
        except GradientError:
            return True
        return False


def initial(case: Case) -> Any:
    """Draw initial params, of a varied layer those of the layer itself."""
    init = case.layer.init
    if isinstance(init, partial) and init.func is varied_init:
        init = init.args[0].init
    return doubled(init(lf.Key(11), case.x))


def generic(params: Any) -> Any:
    """Change each number, so that none is 1 or 0."""
    count = iter(range(sys.maxsize))

    def changed(leaf: torch.Tensor) -> torch.Tensor:
        if not leaf.is_floating_point():
            return leaf
        drawn = keys.uniform(lf.Key(5).fold_in(next(count)), (2, *leaf.shape)).double()
        return leaf * (1 + 0.3 * drawn[0]) + 0.2 * drawn[1]

    return tree.map(changed, params, states=True)


def mutants(case: Case) -> Iterator[Mutant]:
    """List the mutants of a layer that are wrong at generic params."""
    params, x = initial(case), doubled(case.x)
    leaves = tree.leaves(params, states=True)
    floating = [i for i, leaf in enumerate(leaves) if leaf.is_floating_point()]
    for i in floating:
        for fill in (1.0, 0.0):
            mutant = Mutant(case, params, x, i, fill)
            if len(floating) > LEAVES and mutant.is_wrong(params):
                continue
            if mutant.is_wrong(generic(params)):
                yield mutant


def unnamed(evidence: Any, wrong: Any) -> dict[int, Mistake]:
    """Name no mistake: most of the time goes into names, which have their own tests."""
    return {i: Mistake("", "is wrong") for i in wrong}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--every", type=int, default=1, help="take each so many-th row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    blame.name_mistakes = unnamed
    made = hidden = 0
    missed = []
    for case in CASES[:: options.every]:
        for mutant in mutants(case):
            made += 1
            hidden += not mutant.is_wrong(mutant.params)
            if not mutant.is_caught():
                missed.append(mutant)
                print("missed:", mutant, flush=True)
    print(f"{made} mistakes, {hidden} of them right at initial params, {len(missed)} missed")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
