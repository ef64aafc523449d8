"""What a backward walk needs from a layer, and from each part of a composition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from lincoln_fn.core.layer import Params
from lincoln_fn.walk.parts import is_trained


@attrs.frozen
class Wants:
    """What a backward walk needs from a layer."""

    dx: bool
    dparams: bool

    @property
    def function(self) -> str:
        """The function that computes this, as errors name it."""
        return "backward" if self.dx == self.dparams else "input_grad" if self.dx else "grads"


ALL: Final = Wants(dx=True, dparams=True)
DX: Final = Wants(dx=True, dparams=False)
DPARAMS: Final = Wants(dx=False, dparams=True)
NOTHING: Final = Wants(dx=False, dparams=False)


def wants_of_part(
    needs_dx: Callable[[int, Params], bool],
    i: int,
    params: Params,
    part_params: Params,
    wants: Wants,
    train: bool = True,
) -> Wants:
    """Return what is needed from part i of a composition, of which `wants` is needed."""
    if wants.dx:
        return wants if train else DX
    if wants.dparams:
        if needs_dx(i, params):
            return ALL if train else DX
        if train and is_trained(part_params):
            return DPARAMS
    return NOTHING
