"""All submissions, and the table of what the checker says of them."""

import html
import re
from functools import cache
from importlib import import_module

from helpers.submissions.submission import Submission

FAMILIES = [import_module(f"helpers.submissions.{name}") for name in (
    "activations", "softmaxes", "dense", "tensors", "convolutions", "pooling", "norms", "sequences",
    "losses", "further", "gates", "styles",
)]  # fmt: skip
WRONG: list[Submission] = [s for family in FAMILIES for s in family.WRONG]
RIGHT: list[Submission] = [s for family in FAMILIES for s in family.RIGHT]


@cache
def said(submission: Submission) -> tuple[str, str]:
    """Give the name and the sentence of the first mistake; empty if the checker finds none."""
    mistakes = submission.report().mistakes
    return (mistakes[0].name, mistakes[0].sentence) if mistakes else ("", "")


def rows(submissions: list[Submission]) -> list[str]:
    """Write rows of the table, in Markdown."""
    lines = []
    for submission in submissions:
        pieces = said(submission)[1].replace("|", "\\|").split("`")
        # Code is between backquotes, and shown as it is.
        pieces[::2] = [html.escape(piece, quote=False) for piece in pieces[::2]]
        sentence = "`".join(pieces)
        # Lines of these files move.
        sentence = re.sub(r"\bline \d+", "line N", sentence)
        # Newer versions of torch name the operation.
        sentence = sentence.replace("RuntimeError: mm: ", "RuntimeError: ")
        lines.append(f"| {submission.family} | {submission.what} | {sentence} |")
    return lines


def table() -> str:
    """Write the table, in Markdown."""
    heads = ["| layer | what is wrong | what the checker says |", "| --- | --- | --- |"]
    return "\n".join([*heads, *rows(WRONG)])


if __name__ == "__main__":
    print(table())
