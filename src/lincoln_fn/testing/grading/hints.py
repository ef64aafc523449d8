"""What a student is told, by level."""

from __future__ import annotations

from typing import Literal, TypeAlias

from lincoln_fn.testing.report import Finding

Level: TypeAlias = Literal[0, 1, 2]


def hint(finding: Finding, level: Level) -> str:
    """Say what a finding tells at a level, and never a value of the right gradient.

    Args:
        finding: what is wrong.
        level: 0 for nothing, 1 for where to look, 2 for what is wrong.

    Returns:
        The hint; "" at level 0.

    Example:
        >>> sentence = "mine(): dx is wrong in 1 of 2 places, a term missing or wrong: 2 at [1]"
        >>> finding = Finding("", "mine()", "dx", "wrong", sentence=sentence)
        >>> [hint(finding, 0), hint(finding, 1), hint(finding, 2)]
        ['', 'look at dx', 'dx is wrong in 1 of 2 places, a term missing or wrong']
    """
    if level == 0:
        return ""
    if level == 1:
        return f"look at {finding.gradient}"
    sentence = finding.sentence
    if not finding.path:
        sentence = sentence.removeprefix(f"{finding.layer}: ")
    # The numbers follow.
    told, unnamed, _ = sentence.partition(", a term missing or wrong")
    return (told + unnamed).rstrip(": ")
