"""What checks and proofs find, the errors they raise, and when two gradients count as equal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from html import escape
from typing import Final, Literal, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, Params, is_derived, named_leaves, tree

Texts: TypeAlias = Sequence[str]
# Trees by "dx" and "dparams".
Both: TypeAlias = dict[str, Arrays]
_OTHER = {"dx": "dparams", "dparams": "dx"}
# The name of a mistake that is none in a gradient.
IN_PLACE = "in place"
# Functions that a layer need not have of its own.
HALVES = ("grads", "input_grad")
# Much larger than the errors of the oracles, much smaller than any mistake worth a name.
TOLERANCE = 1e-5


class GradientError(AssertionError):
    """Raised if a layer or loss breaks the contract; names the leaf and the likely mistake."""

    def __init__(self, sentence: str, function: str = "backward") -> None:
        super().__init__(sentence)
        # What breaks it.
        self.function = function


class ContractError(GradientError):
    """A `GradientError` that says how the rest can be judged all the same."""

    # The name of the mistake.
    name = "contract"

    def mended(self, layer: Layer) -> Layer | None:
        """Make the layer without what breaks it; None if nothing is left to judge."""
        if layer.composition is not None or self.function not in HALVES:
            return None
        others = {half: getattr(layer, half) for half in HALVES if half != self.function}
        return layer.replace(backward=layer.backward, **others)

    def told_of(self, finding: Finding) -> Finding:
        """Add what it says to what was found of a gradient."""
        return finding


class ImpureError(ContractError):
    """Raised if a function changes an argument, or gives something else the second time."""

    name = IN_PLACE


class ContainerError(ContractError):
    """Raised if gradients do not have the structure of x and params."""

    def __init__(self, sentence: str, expected: Both, given: Both) -> None:
        super().__init__(sentence)
        # What x and params are, with None for what has no gradient; and the gradients.
        self.expected, self.given = expected, given
        self.missing = [half for half in expected if not _fits(expected[half], given[half])]
        is_crossed = all(_fits(expected[half], given[_OTHER[half]]) for half in expected)
        self.is_swapped = is_crossed and bool(self.missing)
        self.name = "swapped" if self.is_swapped else "container"

    def mended(self, layer: Layer) -> Layer:
        """Make the layer whose backward returns the same numbers in the right containers."""

        def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
            dx, dparams = layer.backward(params, cache, g)
            if self.is_swapped:
                dx, dparams = dparams, dx
            return _as(self.expected["dx"], dx), _as(self.expected["dparams"], dparams)

        halves = {half: getattr(layer, half) for half in HALVES if not is_derived(layer, half)}
        return layer.replace(backward=backward, **halves)

    def told_of(self, finding: Finding) -> Finding:
        """Add to what was found of a gradient that it has right numbers in another container."""
        half = finding.leaf.partition(".")[0]
        is_missing = half in self.missing and not self.is_swapped
        if half not in self.expected or not (finding.verdict == "right" or is_missing):
            return finding
        if self.is_swapped:
            told = f"is in the place of {_OTHER[half]}: backward returns (dparams, dx)"
        elif tree.same_structure(self.expected[half], self.given[half]):
            return finding
        else:
            how = "is missing" if is_missing else "has the right values in another container"
            given, expected = (type(each[half]).__name__ for each in (self.given, self.expected))
            told = f"{how}: {half} is a {given}, expected a {expected}"
        sentence = f"{finding.layer}: {finding.leaf} {told}"
        return attrs.evolve(finding, verdict="wrong", name=self.name, sentence=sentence)


def _fits(expected: Arrays, given: Arrays) -> bool:
    one, other = (sorted(leaf.shape for leaf in tree.leaves(each)) for each in (expected, given))
    return one == other


def _as(expected: Arrays, given: Arrays) -> Arrays:
    """Put gradients into a container, by name or in their order; zeros if they do not fit."""
    named = dict(named_leaves(given))
    paths = tree.paths(expected)
    leaves = [named[path] for path in paths] if named.keys() == {*paths} else [*named.values()]
    if [leaf.shape for leaf in leaves] != [leaf.shape for leaf in tree.leaves(expected)]:
        return tree.map(torch.zeros_like, expected)
    return tree.unflatten(expected, leaves)


def close(given: Tensor, expected: Tensor, floor: float = 1e-9, part: float = TOLERANCE) -> bool:
    """Return whether two tensors have one shape and, up to the oracles' error, the same values."""
    if given.shape != expected.shape:
        return False
    if torch.equal(given, expected):  # infinities included
        return True
    if expected.dtype is torch.bool:  # a mask that a layer passes on
        return False
    return bool((given - expected).abs().max() <= part * expected.abs().max() + floor)


def not_finite(arrays: object) -> str:
    """Count the values that are not finite, in words; "" if all are."""
    count = sum(int((~torch.isfinite(leaf)).sum()) for leaf in tree.leaves(arrays))
    values = "1 value that is" if count == 1 else f"{count} values that are"
    return f"holds {values} not finite" if count else ""


def close_trees(given: object, expected: object, *tolerances: float) -> bool:
    """Return whether two trees have one structure and, up to rounding, the same values."""
    pairs = zip(tree.leaves(given), tree.leaves(expected), strict=False)
    is_same = tree.same_structure(given, expected)
    return is_same and all(close(*pair, *tolerances) for pair in pairs)


def raised(name: str, function: str, error: Exception, why: str = "") -> GradientError:
    """Make the error of a layer's function that raised one."""
    told = ": ".join(filter(None, (type(error).__name__, str(error))))
    return GradientError(f"{name}: {function} raised {told}{why}", function)


def short(dtype: torch.dtype) -> str:
    """Name a dtype without its module."""
    return str(dtype).removeprefix("torch.")


def shapes(given: Tensor, expected: Tensor) -> str:
    """Say which shape a tensor has, and which it should have."""
    return f"shape {tuple(given.shape)}, expected {tuple(expected.shape)}"


Verdict: TypeAlias = Literal["right", "wrong", "not judged"]
_SIGNS: dict[Verdict, str] = {"right": "✓", "wrong": "✗", "not judged": "?"}
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


@attrs.frozen(repr=False)
class Report:
    """What a check found out.

    Args:
        findings: one for each gradient; or one of the function that breaks the contract, named
            "contract", or refuses its arguments, named "refused".
        remarks: what else is worth knowing: places left out, digits that were lost.

    Example:
        >>> x = torch.tensor([-1.0, 0.0, 2.0])
        >>> lf.testing.check_layer(lf.relu(), (), x)
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

    __repr__ = __str__

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


def html_table(title: Texts, heads: Texts, rows: Sequence[Texts], remarks: Texts) -> str:
    """Write a table with a title and remarks, without its empty columns."""
    shown = [n for n in range(len(heads)) if any(row[n] for row in rows)]
    head = _row("th", [heads[n] for n in shown])
    body = "".join(_row("td", [row[n] for n in shown]) for row in rows)
    items = "".join(f"<li>{_html(remark)}</li>" for remark in remarks)
    table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
    notes = f"<ul>{items}</ul>" if items else ""
    return f"<div><b>{escape(title[0])}</b>: {title[1]}{table}{notes}</div>"


def _row(kind: str, cells: Texts) -> str:
    shown = "".join(f'<{kind} style="text-align:left">{_html(cell)}</{kind}>' for cell in cells)
    return f"<tr>{shown}</tr>"


def _html(text: str) -> str:
    """Escape a text, and mark what stands between backquotes as code."""
    return re.sub("`(.+?)`", r"<code>\1</code>", escape(text))
