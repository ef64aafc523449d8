"""Text of strangers, such as a file's name, as it may be printed."""

from __future__ import annotations


def printable(text: str) -> str:
    """Write what a terminal obeys, and what ends a line, as Python's `repr` does."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def in_one_line(text: str) -> str:
    """Make a sentence of one line."""
    return printable(" ".join(text.split()))
