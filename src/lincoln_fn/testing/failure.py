"""The finding of a function that raises, breaks the contract, or refuses what it is given."""

from __future__ import annotations

from lincoln_fn.errors.errors import LayerError
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.localise import Part
from lincoln_fn.testing.precision import FUNCTIONS
from lincoln_fn.testing.report import Finding, Verdict


def failure(part: Part, error: GradientError | LayerError) -> Finding:
    """Make the finding of an error: of which function it is, and what it says."""
    refused = isinstance(error, LayerError)
    function = _refusing(part) if refused else _told(str(error), part.layer.name)
    name = "refused" if refused else "contract"
    verdict: Verdict = "not judged" if refused and function == "forward" else "wrong"
    return Finding(part.path, part.layer.name, function, verdict, name, str(error))


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
