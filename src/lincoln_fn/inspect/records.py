"""What `trace` finds: a record for each use of a layer, and the text of a table of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import attrs

from lincoln_fn.core import Arrays, format_briefly, shown


@attrs.frozen
class NonFinite:
    """The first value of a layer that is `nan` or infinite.

    Args:
        where: "output", which is checked first, or "gradient".
        entry: the path within a tuple of several tensors, such as "1"; "" for a single tensor.
    """

    where: Literal["output", "gradient"]
    entry: str
    index: tuple[int, ...]
    value: float

    def __str__(self) -> str:
        entry = self.entry and f".{self.entry}"
        return f"{self.where}{entry}{list(self.index)} is {self.value}"


@attrs.frozen(eq=False)
class LayerTrace:
    """The output and the gradient of one use of a single layer.

    Args:
        path: positions in `parts`, from the outermost, joined by dots; "" for the whole network.
        use: the number of this use, from 1; a `shared` layer has several uses.
        gradient: dL/dy; None if the backward pass did not reach the layer.
        output_norm: the Euclidean norm of y; like the other norms, None if there is no tensor.
        dparams_norm: that of the gradient of the layer's parameters; None also if they are frozen.
        dead: the share of y's units that are 0 for every example, as `trace` says.
        non_finite: the first value that is not finite, if any.
    """

    path: str
    name: str
    use: int
    output: Arrays = attrs.field(repr=format_briefly)
    gradient: Arrays = attrs.field(repr=format_briefly)
    output_norm: float | None
    gradient_norm: float | None
    dparams_norm: float | None
    dead: float | None
    non_finite: NonFinite | None

    @property
    def label(self) -> str:
        """A unique label: path, name and, from the second use on, the number of the use."""
        again = f", use {self.use}" if self.use > 1 else ""
        return f"{self.path} {self.name}{again}".lstrip()


class Trace(tuple[LayerTrace, ...]):
    """The records of all single layers in the order of their use; its str is a table."""

    __slots__ = ()

    def outputs(self) -> dict[str, Arrays]:
        """Return each layer's y by its label, as `lf.plots.activations` takes them."""
        return {layer.label: layer.output for layer in self}

    def gradient_norms(self) -> dict[str, float]:
        """Return the norm of each dL/dy by label, as `lf.plots.gradient_norms` takes them."""
        pairs = ((layer.label, layer.gradient_norm) for layer in self)
        return {label: norm for label, norm in pairs if norm is not None}

    def __str__(self) -> str:
        return table(TRACE_HEADINGS, [cells(layer) for layer in self], left=3)

    def _repr_html_(self) -> str:
        return shown(self)


TRACE_HEADINGS: Final = (
    "path", "layer", "output", "|output|", "|gradient|", "|dparams|", "dead", ""
)  # fmt: skip


def cells(layer: LayerTrace) -> tuple[str, ...]:
    """Write the cells of a layer's row."""
    norms = (layer.output_norm, layer.gradient_norm, layer.dparams_norm)
    return (
        layer.path,
        layer.label[len(layer.path) :].lstrip(),
        format_briefly(layer.output),
        *("-" if norm is None else f"{norm:.4g}" for norm in norms),
        "-" if layer.dead is None else f"{layer.dead:.1%}",
        str(layer.non_finite or ""),
    )


def note(seen: dict[str, Arrays], path: str, y: Arrays) -> str:
    """Add a layer's output to those seen, and return its label: "path", or "path, use 2"."""
    uses = len(labels_of(path, seen))
    label = f"{path}, use {uses + 1}" if uses else path
    seen[label] = y
    return label


def labels_of(path: str, seen: Iterable[str]) -> list[str]:
    """List the labels of a layer's uses, as `note` makes them."""
    return [label for label in seen if label == path or label.startswith(f"{path}, use ")]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Format rows under headings, in columns two spaces apart."""
    lines = [headings, (), *rows]
    widths = [max(map(len, column)) for column in zip(headings, *filter(None, rows), strict=True)]
    across = "─" * (sum(widths) + 2 * (len(widths) - 1))

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return "\n".join(line(cells) if cells else across for cells in lines)
