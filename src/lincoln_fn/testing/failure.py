"""The parts of a composition, and the finding of one that raises or breaks the contract."""

from __future__ import annotations

import re
from functools import partial
from typing import NamedTuple

from lincoln_fn.core import Arrays, Cache, Layer, LayerError, Params
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.precision import FUNCTIONS
from lincoln_fn.testing.report import Finding, Verdict
from lincoln_fn.walk.internal import map_paths, paths


class Part(NamedTuple):
    """One use of a part of a network."""

    path: str
    layer: Layer
    params: Params
    x: Arrays


def parts_at(net: Layer, params: Params, x: Arrays) -> list[Part]:
    """List the parts of a network with what they are given, the innermost first."""
    layers = dict(paths(net))
    seen: dict[str, Part] = {}

    def forward(path: str, inner: Layer, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        seen.setdefault(path, Part(path, layers[path], params, x))
        return inner.forward(params, x)

    def spied(layer: Layer, path: str) -> Layer:
        return layer.replace(forward=partial(forward, path, layer)) if path else layer

    map_paths(spied, net).forward(params, x)
    return sorted(seen.values(), key=lambda part: -part.path.count("."))


# An array of no numbers does not fit.
_EMPTY = re.compile(r"raised ValueError: .*from shape \((?:\d+, ?)*0[,)]")
# What older code uses, and numpy no longer has.
_REMOVED = re.compile(
    r"raised (AttributeError: (module 'numpy[\w.]*' has no attribute|`?np\.\w+`? was (a dep|rem))"
    r"|TypeError: reshape\(\) got an unexpected keyword argument 'newshape')"
)


def failure(part: Part, error: GradientError | LayerError) -> Finding:
    """Make the finding of an error: of which function it is, and what it says."""
    refused = isinstance(error, LayerError)
    function = _refusing(part) if refused else _told(str(error), part.layer.name)
    name = "refused" if refused else "contract"
    sentence = str(error)
    if _EMPTY.search(sentence):
        name, sentence = "empty slice", f"{sentence}; is a slice such as pad:-pad empty at pad 0?"
    is_old = bool(_REMOVED.search(sentence))
    if is_old:
        name, sentence = "numpy", f"{sentence}; this version of numpy has removed it"
    is_doubtful = is_old or (refused and function == "forward")
    verdict: Verdict = "not judged" if is_doubtful else "wrong"
    return Finding(part.path, part.layer.name, function, verdict, name, sentence)


def _refusing(part: Part) -> str:
    """Find out which function refuses."""
    try:
        part.layer.forward(part.params, part.x)
    except Exception:  # a submission may fail in any way
        return "forward"
    return "backward"


def _told(sentence: str, name: str) -> str:
    """Find the function that an error tells of."""
    told = sentence.removeprefix(f"{name}: ")
    if told.startswith("y "):  # its output
        return "forward"
    return next((f for f in FUNCTIONS if told.startswith(f) or f" {f} " in told), "backward")
