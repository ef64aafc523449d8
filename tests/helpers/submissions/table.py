"""All submissions, and what the checker says of them."""

from functools import cache
from importlib import import_module

from helpers.submissions.submission import Submission

FAMILIES = [
    import_module(f"helpers.submissions.{name}")
    for name in ("activations", "convolutions", "dense", "losses", "norms", "sequences")
]
WRONG: list[Submission] = [s for family in FAMILIES for s in family.WRONG]
RIGHT: list[Submission] = [s for family in FAMILIES for s in family.RIGHT]


@cache
def said(submission: Submission) -> tuple[str, str]:
    """Give the name and the sentence of the first mistake; empty if the checker finds none."""
    mistakes = submission.report().mistakes
    return (mistakes[0].name, mistakes[0].sentence) if mistakes else ("", "")
