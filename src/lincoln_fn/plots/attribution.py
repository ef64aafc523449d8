"""Attributions as heat maps: over an image, and by layer and position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.plots._figure import Axes, new_axes, signed_image


def relevance(values: Tensor, *, image: Tensor | None = None, axes: Axes | None = None) -> Axes:
    """Draw the attribution of an image's pixels.

    What speaks for the explained output is red, what speaks against it is blue, and 0 is white, or
    the image where one is given.

    Args:
        values: the attribution, (height, width) or (channels, height, width), whose channels are
            added up. It may be coarser than the image, as Grad-CAM is.
        image: the image, drawn in grey below: of such a shape, whose channels are averaged.

    Returns:
        The axes. The last image's array holds the values.

    Raises:
        ValueError: if values or image have another number of axes.

    Example:
        >>> axes = relevance(torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]]))
        >>> axes.images[0].get_array().tolist()
        [[1.5, -2.0]]
    """
    shown = _plane("values", values).sum(0)
    axes = new_axes() if axes is None else axes
    height, width = shown.shape
    if image is not None:
        below = _plane("image", image).mean(0)
        height, width = below.shape
        low, high = below.min().item(), below.max().item()
        # Half of the scale, so that colours are visible above the darkest pixels.
        axes.imshow(below.numpy(), cmap="gray_r", vmin=low, vmax=2 * high - low)
    drawn = signed_image(axes, shown.numpy(), extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    if image is not None:
        drawn.set_alpha((shown.abs() / drawn.get_clim()[1]).clamp(0.15, 0.9).numpy())
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def effects(
    values: Mapping[str, Tensor],
    *,
    columns: Sequence[str] | None = None,
    label: str = "effect",
    axes: Axes | None = None,
) -> Axes:
    """Draw numbers by layer and position, such as the effects of patching.

    Args:
        values: by layer, a number for each position: a tensor of one axis.
        columns: the names of the positions, such as characters; None counts them.
        label: what the numbers are.
        axes: to draw on; None makes a figure large enough for all layers.

    Returns:
        The axes. The image's array has a row for each layer and a column for each position.

    Raises:
        ValueError: if there are no values, or they are not one number for each position.

    Example:
        >>> values = {"0": torch.tensor([1.0, -2.0]), "1": torch.zeros(2)}
        >>> axes = effects(values, columns=["a", "b"])
        >>> axes.images[0].get_array().tolist()
        [[1.0, -2.0], [0.0, 0.0]]
    """
    shapes = {tuple(row.shape) for row in values.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        wanted = "a tensor of one axis for each layer, all of one length"
        raise ValueError(f"effects: expected {wanted}, got shapes {sorted(shapes)}")
    (length,) = next(iter(shapes))
    if columns is not None and len(columns) != length:
        raise ValueError(f"effects: expected {length} columns, got {len(columns)}")
    rows = np.array([row.detach().double().cpu().numpy() for row in values.values()])
    if axes is None:
        size = max(6.4, 2.0 + 0.16 * length), max(3.2, 1.2 + 0.2 * len(rows))
        axes = new_axes(*size)
    image = signed_image(axes, rows, aspect="auto")
    axes.set_yticks(range(len(rows)), list(values), fontsize="small")
    if columns is not None:
        axes.set_xticks(range(length), list(columns), fontsize="small")
    axes.set(xlabel="position")
    axes.figure.colorbar(image, ax=axes, label=label, extend="both")
    return axes


def _plane(name: str, image: Tensor) -> Float[Tensor, "channels height width"]:
    if image.ndim not in (2, 3):
        wanted = f"expected {name} of shape (height, width) or (channels, height, width)"
        raise ValueError(f"relevance: {wanted}, got {tuple(image.shape)}")
    plane = image.detach().cpu().float()
    return plane if plane.ndim == 3 else plane.unsqueeze(0)
