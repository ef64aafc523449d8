"""The first layer's weights as pictures, and attributions by pixel, layer and position."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.plots._figure import Axes, new_axes, quantile_limit, signed_image


def filters(
    weight: Tensor,
    *,
    image_shape: tuple[int, ...] | None = None,
    count: int = 64,
    axes: Axes | None = None,
) -> Axes:
    """Draw the weights of a network's first layer, a tile for each output.

    Blue weights are negative, red ones positive, and white ones 0. All tiles have one scale; the
    largest half percent of the weights is at its ends. The filters of images with three channels
    are shown in colour; grey is 0.

    Args:
        weight: of a dense layer on flattened images, (n_in, n_out); or of a convolution, (out, in,
            height, width) or (out, in, length). A dense layer's images are square unless
            image_shape says otherwise. A convolution with other than one or three channels has a
            tile for each channel, and a row of tiles for each output. In a 1d convolution, the rows
            of a tile are channels.
        image_shape: (height, width) or (channels, height, width) of a dense layer's input.
        count: how many outputs to show, from the first.

    Returns:
        The axes, with one image of all tiles; lines of nan separate them.

    Example:
        >>> weight = torch.eye(4)  # four outputs, each of which sees one pixel of a 2 by 2 image
        >>> filters(weight).images[0].get_array().shape
        (5, 5)
    """
    outputs = _kernels(weight.detach().cpu().float(), image_shape)
    tiles = kernels = outputs[: max(count, 1)]
    columns, in_colour = math.ceil(math.sqrt(len(kernels))), kernels.shape[1] == 3
    if kernels.shape[1] not in (1, 3):
        columns, tiles = kernels.shape[1], kernels.flatten(0, 1).unsqueeze(1)
    limit = quantile_limit(tiles.numpy())
    picture = _tile(tiles, columns)
    axes = axes or new_axes()
    if in_colour:
        colours = (picture / limit / 2 + 0.5).clamp(0, 1).nan_to_num(1.0)
        axes.imshow(colours.movedim(0, -1).numpy())
    else:
        image, (height, width) = signed_image(axes, picture[0].numpy(), limit), picture.shape[1:]
        shrink = min(1.0, height / width)
        axes.figure.colorbar(image, ax=axes, label="weight", extend="both", shrink=shrink)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    of = "" if len(kernels) == len(outputs) else f"{len(kernels)} of "
    axes.set_title(f"First layer's weights, {of}{len(outputs)} outputs")
    return axes


def _kernels(
    weight: Tensor, image_shape: tuple[int, ...] | None
) -> Float[Tensor, "out channels height width"]:
    if weight.ndim == 4:
        return weight
    if weight.ndim == 3:
        return weight.unsqueeze(1)
    if weight.ndim != 2:
        wanted = "expected a weight of 2, 3 or 4 axes"
        raise ValueError(f"filters: {wanted}, got shape {tuple(weight.shape)}")
    side = math.isqrt(len(weight))
    shape = (1, *((side, side) if image_shape is None else image_shape))[-3:]
    if len(shape) != 3 or math.prod(shape) != len(weight):
        images = "square images" if image_shape is None else f"images of shape {image_shape}"
        mend = "; give image_shape" if image_shape is None else ""
        raise ValueError(f"filters: expected {images}, got {len(weight)} inputs{mend}")
    return weight.mT.reshape(-1, *shape)


def _tile(
    tiles: Float[Tensor, "n channels height width"], columns: int
) -> Float[Tensor, "channels rows_height columns_width"]:
    """Lay tiles out row by row, with lines of nan between them, and nan in unused tiles."""
    rows = math.ceil(len(tiles) / columns)
    lined = torch.nn.functional.pad(tiles, (0, 1, 0, 1), value=torch.nan)
    free = lined.new_full((rows * columns - len(tiles), *lined.shape[1:]), torch.nan)
    grid = torch.cat([lined, free]).view(rows, columns, *lined.shape[1:])
    return grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)[:, :-1, :-1]


def relevance(values: Tensor, *, image: Tensor | None = None, axes: Axes | None = None) -> Axes:
    """Draw the attribution of an image's pixels.

    What speaks for the explained output is red, what speaks against it is blue, and 0 is white, or
    the image where one is given.

    Args:
        values: the attribution, (height, width) or (channels, height, width), whose channels are
            added up. It may be coarser than the image, as Grad-CAM is.
        image: the image, drawn in grey below: of such a shape, whose channels are averaged.

    Example:
        >>> axes = relevance(torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]]))
        >>> axes.images[0].get_array().tolist()
        [[1.5, -2.0]]
    """
    shown = _plane("values", values).sum(0)
    axes = axes or new_axes()
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
    axes = axes or new_axes(max(6.4, 2.0 + 0.16 * length), max(3.2, 1.2 + 0.2 * len(rows)))
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
