"""One case of a grading, as it runs in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from lincoln_fn.core import tree
from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Arrays, Cache, Layer, Params
from lincoln_fn.testing.check import check_layer
from lincoln_fn.testing.grading.submission import Submission, adapted, layer_of, load
from lincoln_fn.testing.precision import Doubled
from lincoln_fn.testing.report import Report
from lincoln_fn.testing.sample import doubled, random_like, run_backward, run_forward


def examined(
    submission: Submission,
    reference: Layer,
    case: tuple[Params, Arrays],
    ran: Callable[[], object],
) -> Report:
    """Check a submission for one case."""
    params, x = doubled(case)
    loaded = load(submission)
    if isinstance(loaded, Layer):
        layer, own = loaded, params
    else:
        layer, own = layer_of(loaded, reference), adapted(params, loaded)
    _run_once(Doubled().inside(layer), own, x)
    ran()

    def right(own: Params, x: Arrays) -> tuple[Arrays, Cache]:
        return reference.forward(_by_leaves(params, own), x)[0], None

    return check_layer(layer, own, x, all=True, reference=reference.replace(forward=right))


def _run_once(layer: Layer, params: Params, x: Arrays) -> None:
    """Run forward and backward of copies, whatever they do."""
    params, x = tree.map(torch.clone, (params, x), states=True)
    with suppress(Exception):
        y, cache = run_forward(layer, params, x)
        run_backward(layer, params, cache, random_like(y, Key(0)))


def _by_leaves(like: Any, own: Any) -> Any:  # Any: params
    """Give the tensors of the submission's params to the reference's records."""
    leaves = iter(tree.leaves(own, states=True))
    return tree.map(lambda leaf: next(leaves), like, states=True)
