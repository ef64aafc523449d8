"""Figures outside pyplot, and colours that colour-blind readers can distinguish."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

else:
    Axes = Any  # matplotlib is imported when the first picture is drawn

T = TypeVar("T")
Numbers: TypeAlias = NDArray[np.generic]  # of any shape and dtype
# The palette of Okabe and Ito, "Color Universal Design", 2008, without its yellow, which is too
# pale for a line on white.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def new_figure(width: float, height: float) -> Figure:
    """Make a figure that is not registered in pyplot, and needs no display."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        mend = "pip install 'lincoln_fn[plot]'"
        raise ImportError(f"lincoln_fn.plots draws by matplotlib; {mend}") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    return _shown(figure, figure)


def new_axes(width: float = 6.4, height: float = 4.8) -> Axes:
    """Make the only axes of a new figure."""
    return axes_grid(new_figure(width, height), 1, 1, 1)[0]


class _Grid(tuple[Axes, ...]):
    """All axes of a figure."""


def axes_grid(figure: Figure, rows: int, columns: int, count: int) -> tuple[Axes, ...]:
    """Divide a figure into axes, row by row."""
    subplots = (figure.add_subplot(rows, columns, i + 1) for i in range(count))
    return _shown(_Grid(_shown(axes, figure) for axes in subplots), figure)


def _shown(value: T, figure: Figure) -> T:
    """Let a notebook show a figure where this is the value of a cell.

    It shows matplotlib's own figures only after pyplot was imported, and axes never.
    """
    vars(value).update(_repr_png_=partial(_png, figure))
    return value


def _png(figure: Figure) -> tuple[bytes, dict[str, int]]:
    """Draw twice as many pixels as the size at which a notebook shows them: it is sharp."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=2 * figure.dpi)
    width, height = (round(inches * figure.dpi) for inches in figure.get_size_inches())
    return file.getvalue(), {"width": width, "height": height}


# Any: the options of `imshow`.
def signed_image(
    axes: Axes, values: Numbers, limit: float | None = None, **options: Any
) -> AxesImage:
    """Draw numbers on a scale around 0: blue is negative, red positive, white 0."""
    limit = limit or quantile_limit(values)
    options = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, **options}
    return axes.imshow(values, interpolation="nearest", **options)


def quantile_limit(values: Numbers) -> float:
    """Return the end of a scale around 0: a few large values would make all others pale."""
    return float(np.quantile(np.abs(values), 0.995)) or 1.0
