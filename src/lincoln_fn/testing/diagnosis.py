"""What checks and proofs find, and when two gradients count as equal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from html import escape
from typing import Final, Literal, TypeAlias

import attrs
import torch
from torch import Tensor

# Much larger than the errors of the oracles, much smaller than any mistake worth a name.
TOLERANCE = 1e-5


class GradientError(AssertionError):
    """Raised if a layer or loss breaks the contract; names the leaf and the likely mistake."""

    def __init__(self, sentence: str, function: str = "backward") -> None:
        super().__init__(sentence)
        # What breaks it.
        self.function = function


class ImpureError(GradientError):
    """Raised if a function changes an argument, or gives something else the second time."""


def close(given: Tensor, expected: Tensor, floor: float = 1e-9) -> bool:
    """Return whether two tensors have one shape and, up to the oracles' error, the same values."""
    if given.shape != expected.shape:
        return False
    if torch.equal(given, expected):  # infinities included
        return True
    if expected.dtype is torch.bool:  # a mask that a layer passes on
        return False
    return bool((given - expected).abs().max() <= TOLERANCE * expected.abs().max() + floor)


def shapes(given: Tensor, expected: Tensor) -> str:
    """Say which shape a tensor has, and which it should have."""
    return f"shape {tuple(given.shape)}, expected {tuple(expected.shape)}"


Verdict: TypeAlias = Literal["right", "wrong", "not judged"]
_SIGNS: dict[Verdict, str] = {"right": "✓", "wrong": "✗", "not judged": "?"}
# Of places left out, these many are listed.
LISTED = 5
_SCOPE: Final = (
    "the derivative of forward, for these shapes and the branches that these numbers take, in real "
    "arithmetic"
)


@attrs.frozen
class Finding:
    """What was found out about one gradient, or one function.

    Args:
        path: the path of the layer in a composition, such as "1.0"; "" for the layer itself.
        leaf: the gradient, such as "dx" or "dparams.weight"; or a function, such as "forward".
        verdict: "right", "wrong" or "not judged".
        name: the mistake in a few words, such as "g forgotten"; "" if it has none.
        sentence: the mistake in a sentence; "" if there is none.
        place: where the error is largest; None if there is none or shapes differ.
        error: the largest error, in multiples of the largest value expected; 0 if it is right.
        left_out: the places that were not judged, because x or a parameter lies on a kink there.
    """

    path: str
    layer: str
    leaf: str
    verdict: Verdict
    name: str = ""
    sentence: str = ""
    place: tuple[int, ...] | None = None
    error: float = 0.0
    left_out: tuple[tuple[int, ...], ...] = ()

    @property
    def where(self) -> str:
        """The layer, with its path in a composition."""
        return f"{self.path} {self.layer}".strip()

    @property
    def gradient(self) -> str:
        """The leaf, with the path of its layer in a composition."""
        return f"{self.path} {self.leaf}".strip()

    def __str__(self) -> str:
        return self.sentence or f"{self.where}: {self.leaf} is {self.verdict}"


@attrs.frozen
class Report:
    """What a check found out.

    Args:
        findings: one for each gradient; or one of the function that breaks the contract, named
            "contract", or refuses its arguments, named "refused".
        remarks: what else is worth knowing: places left out, digits that were lost.

    Example:
        >>> x = torch.tensor([-1.0, 0.0, 2.0])
        >>> print(lf.testing.check_layer(lf.relu(), (), x, all=True))
        relu(): right
          ✓ dx
          note: x lies on a kink at [1]
    """

    name: str
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether a gradient is right, and none is wrong."""
        return self.verdict == "right"

    @property
    def mistakes(self) -> tuple[Finding, ...]:
        """The findings that are wrong."""
        return tuple(f for f in self.findings if f.verdict == "wrong")

    @property
    def verdict(self) -> Verdict:
        """Of all findings: "wrong" if one is, "not judged" if none is right."""
        verdicts = [finding.verdict for finding in self.findings]
        if "wrong" in verdicts:
            return "wrong"
        return "right" if "right" in verdicts or not verdicts else "not judged"

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.verdict}"]
        for finding in self.findings:
            told = f": {finding.sentence}" if finding.sentence else ""
            lines.append(f"  {_SIGNS[finding.verdict]} {finding.gradient}{told}")
        return "\n".join([*lines, *(f"  note: {remark}" for remark in self.remarks)])

    def _repr_html_(self) -> str:
        heads = ("", "gradient", "mistake", "place", "error")
        rows = list(map(_cells, self.findings))
        return html_table((self.name, self.verdict), heads, rows, self.remarks)


def _cells(finding: Finding) -> tuple[str, ...]:
    place = "" if finding.place is None else str(list(finding.place))
    error = f"{finding.error:.2g}" if finding.error else ""
    return (_SIGNS[finding.verdict], finding.gradient, finding.sentence, place, error)


@attrs.frozen
class Proof:
    """The gradients are right, as they are written.

    Args:
        also: what else is equal.
        assumed: what the proof rests on beside the rules of the operations.
    """

    name: str
    leaves: tuple[str, ...]
    also: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.name}: proven", f"  {', '.join(self.leaves)}: {_SCOPE}"]
        lines += [f"  {each}" for each in self.also]
        lines += [f"  assumed: {each}" for each in self.assumed]
        return "\n".join(lines)


@attrs.frozen
class Refutation:
    """A gradient is wrong.

    Args:
        leaf: the gradient, or the function that differs from `backward`.
        times: by which number the right gradient is multiplied; None if by none.
    """

    name: str
    leaf: str
    times: Fraction | None = None

    def __str__(self) -> str:
        if not self.leaf.startswith("d"):
            return f"{self.name}: refuted\n  {self.leaf}"
        told = "" if self.times is None else f": it is {self.times} times the derivative"
        return f"{self.name}: refuted\n  {self.leaf} is not the derivative of forward{told}"


@attrs.frozen
class Undecided:
    """Neither: exact numbers do not reach, and `reason` says why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: undecided\n  {self.reason}"


def kink_remark(leaf: str, places: tuple[tuple[int, ...], ...]) -> str:
    """Say at which places a function has a kink."""
    listed = ", ".join(str(list(place)) for place in places[:LISTED])
    more = f" and {len(places) - LISTED} more places" if len(places) > LISTED else ""
    return f"{leaf.removeprefix('d')} lies on a kink at {listed}{more}"


def html_table(
    title: tuple[str, str],
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    remarks: Sequence[str],
) -> str:
    """Write a table with a title and remarks, without its empty columns."""
    shown = [n for n in range(len(heads)) if any(row[n] for row in rows)]
    head = _row("th", [heads[n] for n in shown])
    body = "".join(_row("td", [row[n] for n in shown]) for row in rows)
    items = "".join(f"<li>{_html(remark)}</li>" for remark in remarks)
    return (
        f"<div><b>{escape(title[0])}</b>: {title[1]}"
        f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
        + (f"<ul>{items}</ul>" if items else "")
        + "</div>"
    )


def _row(kind: str, cells: Sequence[str]) -> str:
    shown = "".join(f'<{kind} style="text-align:left">{_html(cell)}</{kind}>' for cell in cells)
    return f"<tr>{shown}</tr>"


def _html(text: str) -> str:
    """Escape a text, and mark what stands between backquotes as code."""
    return re.sub("`(.+?)`", r"<code>\1</code>", escape(text))
