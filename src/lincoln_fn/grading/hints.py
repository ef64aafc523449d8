"""What a student is told, by level."""

from __future__ import annotations

from typing import Literal, TypeAlias

from lincoln_fn.testing.report import Finding

Level: TypeAlias = Literal[0, 1, 2]


def hint(finding: Finding, level: Level) -> str:
    """Say what a finding tells at a level, and never a value of the right gradient."""
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
