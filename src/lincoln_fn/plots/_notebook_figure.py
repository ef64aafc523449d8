"""Figures, and axes, that show themselves in a notebook.

A notebook shows matplotlib's own figures only after pyplot was imported, and axes never. `_figure`
imports this module when the first picture is drawn, because it imports matplotlib.
"""

from __future__ import annotations

from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure that is shown if it is the value of a notebook's cell."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Draw twice as many pixels as the size at which a notebook shows them: it is sharp."""
        file = BytesIO()
        self.savefig(file, format="png", dpi=2 * self.dpi)
        width, height = (round(inches * self.dpi) for inches in self.get_size_inches())
        return file.getvalue(), {"width": width, "height": height}


class NotebookAxes(Axes):
    """Axes whose figure is shown if they are the value of a notebook's cell."""

    figure: NotebookFigure

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return self.figure._repr_png_()


class AxesTuple(tuple[NotebookAxes, ...]):
    """All axes of one figure, which is shown if they are the value of a notebook's cell."""

    __slots__ = ()

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return self[0].figure._repr_png_()
