"""Figures outside pyplot, and colours that colour-blind readers can distinguish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The palette of Okabe and Ito, "Color Universal Design", 2008, without its yellow, which is too
# pale for a line on white.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def new_figure(width: float = 6.4, height: float = 4.8) -> Figure:
    """Make a figure that is not registered in pyplot, and needs no display.

    Args:
        width: in inches.
        height: in inches.

    Returns:
        The figure.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        mend = "pip install 'lincoln_fn[plot]'"
        raise ImportError(f"lincoln_fn.plots draws by matplotlib; {mend}") from error
    return Figure(figsize=(width, height), layout="constrained")
