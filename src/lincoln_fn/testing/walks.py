"""Checks that a composition's loops also work in the walks of a training step.

`backward` is one walk. A step keeps only the caches that it reads, and others record the cotangents
first. Each gives the number of `backward`. It need not give the same bits, since a layer's `grads`
may compute that number in another way than its `backward`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

from lincoln_fn.core import Arrays, Params
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.functions import close_trees
from lincoln_fn.testing.sample import Sample
from lincoln_fn.walk import cotangents, forward_to_train, gradients, grads_at

_KEPT: Final = "the cache of a part from which nothing is needed is None in a step"
_RECORDED: Final = (
    "`back` returns the records of its parts as visit returned them, and `gather` turns each into "
    "a gradient by visit(i, params, record)"
)


def check_walks(at: Sample) -> None:
    """Check a composition in the walk of a training step, and in that of recorded cotangents."""
    layer, params, cache, g = at.layer, at.params, at.cache, at.g
    if layer.composition is None:
        return

    def recorded() -> tuple[Arrays, Params]:
        dx, sites = cotangents(layer, params, cache, g)
        return dx, grads_at(layer, params, sites)

    def stepped() -> Params:
        return gradients(layer, params, forward_to_train(layer, params, at.x)[1], g)

    walks: tuple[tuple[str, Callable[[], Arrays], Arrays, str], ...] = (
        ("the walk of a step", stepped, at.dparams, _KEPT),
        ("lf.cotangents with lf.grads_at", recorded, (at.dx, at.dparams), _RECORDED),
    )
    for walk, run, expected, mend in walks:
        # What `precision` runs in float64 does so here, too.
        with getattr(layer.grads, "doubled", nullcontext()):
            try:
                given = run()
            except Exception as error:
                problem = f"{walk} raised {type(error).__name__}, and backward did not: {error}"
                raise GradientError(f"{layer.name}: {problem}; {mend}") from error
        if not close_trees(given, expected):
            raise GradientError(f"{layer.name}: {walk} differs from backward; {mend}")
