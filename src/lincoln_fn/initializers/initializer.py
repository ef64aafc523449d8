"""The initializer protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Key, Shape, check_functions


class Fans(NamedTuple):
    """The number of inputs of each output of a layer, and of outputs of each input."""

    n_in: int
    n_out: int


@attrs.frozen(eq=False, repr=False)
class Initializer:
    """A way to draw initial values.

    Args:
        name: the code that makes it; its repr.
        draw: (key, shape, fans, dtype) -> tensor, on the key's device.
    """

    name: str
    draw: Callable[[Key, Shape, Fans, torch.dtype], Tensor]

    def __attrs_post_init__(self) -> None:
        check_functions("Initializer", self.name, draw=self.draw)

    def __repr__(self) -> str:
        return self.name
