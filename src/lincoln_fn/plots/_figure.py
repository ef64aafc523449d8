"""Figures outside pyplot, and colours that colour-blind readers can distinguish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.image import AxesImage

    from lincoln_fn.plots._notebook_figure import AxesTuple, NotebookAxes, NotebookFigure

else:
    Axes = Any  # matplotlib is imported when the first picture is drawn

# The palette of Okabe and Ito, "Color Universal Design", 2008, without its yellow, which is too
# pale for a line on white.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def new_figure(width: float, height: float) -> NotebookFigure:
    """Make a figure that is not registered in pyplot, and needs no display."""
    try:
        from lincoln_fn.plots._notebook_figure import NotebookFigure
    except ImportError as error:
        mend = "pip install 'lincoln_fn[plot]'"
        raise ImportError(f"lincoln_fn.plots draws by matplotlib; {mend}") from error
    return NotebookFigure(figsize=(width, height), layout="constrained")


def new_axes(width: float = 6.4, height: float = 4.8) -> NotebookAxes:
    """Make the only axes of a new figure."""
    return axes_grid(new_figure(width, height), 1, 1, 1)[0]


def axes_grid(figure: NotebookFigure, rows: int, columns: int, count: int) -> AxesTuple:
    """Divide a figure into axes, row by row."""
    from lincoln_fn.plots._notebook_figure import AxesTuple, NotebookAxes

    axes = AxesTuple(NotebookAxes(figure, rows, columns, i + 1) for i in range(count))
    for one in axes:
        figure.add_subplot(one)
    return axes


# Any: the options of `imshow`, and an array of any shape and dtype.
def signed_image(
    axes: Axes, values: np.ndarray[Any, Any], limit: float | None = None, **options: Any
) -> AxesImage:
    """Draw numbers on a scale around 0: blue is negative, red positive, white 0."""
    limit = limit or quantile_limit(values)
    options = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, **options}
    return axes.imshow(values, interpolation="nearest", **options)


def quantile_limit(values: np.ndarray[Any, Any]) -> float:  # Any: of any shape and dtype
    """Return the end of a scale around 0: a few large values would make all others pale."""
    return float(np.quantile(np.abs(values), 0.995)) or 1.0
