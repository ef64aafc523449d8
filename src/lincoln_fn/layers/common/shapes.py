"""Names for the shapes of inputs and outputs that several layers share."""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

Elements: TypeAlias = Float[Tensor, "*s"]
# Of another shape than x: its elements moved, left out or repeated, or numbers made of them.
Moved: TypeAlias = Float[Tensor, "*moved"]
Several: TypeAlias = tuple[Elements, ...]
Features: TypeAlias = Float[Tensor, "*batch n_in"]
Outputs: TypeAlias = Float[Tensor, "*batch n_out"]
Reduced: TypeAlias = Float[Tensor, "*reduced"]
Rows: TypeAlias = Float[Tensor, "*batch_and_row"]
Sequence: TypeAlias = Float[Tensor, "*batch length features"]
Channels: TypeAlias = Float[Tensor, "batch channels *spatial"]
# With the channels before the spatial axes, and a batch or none before the channels: of a
# normalisation, and the x and the y of a convolution.
Instances: TypeAlias = Float[Tensor, "*channels_and_spatial"]
ConvInput: TypeAlias = Float[Tensor, "*in_channels_and_spatial"]
ConvOutput: TypeAlias = Float[Tensor, "*out_channels_and_positions"]
# With any axes before the spatial ones.
Image: TypeAlias = Float[Tensor, "*batch_and_spatial"]
Pooled: TypeAlias = Float[Tensor, "*batch_and_pooled"]
