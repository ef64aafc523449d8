"""A row: how a layer that mixes positions computes those of one step."""

from __future__ import annotations

from types import ModuleType
from typing import Any, TypeAlias

import attrs

from lincoln_fn.core import Function


@attrs.frozen
class Row:
    """How a layer decodes.

    Args:
        init: (params, x, *, axis, max_length) -> state: of what a step has to know of the positions
            before it. x is an input of one position, and `axis` the axis of the positions in it,
            counted from the end. A `LayerError` refuses the layer; its problem is the reason.
        step: (params, state, x, *, position) -> (y, state), for the next positions. `position`, a
            tensor, is the number of positions before them.
        pads: whether the x of `init` may begin with padding. Its last entry is the first position.

    Both functions also get the hyperparameters that are bound to the function of the layer. A
    composition's are those of its loop, and `parts`, its parts.
    """

    init: Function
    step: Function
    pads: bool = False


# By a layer's path; Any: each row has a state of its own.
States: TypeAlias = dict[str, Any]
# By the file of a layer's constructor.
Rows: TypeAlias = dict[ModuleType | None, Row]
