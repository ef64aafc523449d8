"""Operations that a compiled step leaves to ATen, for ATen's kernel is faster than Inductor's code.

Inductor calls an operation that it does not know as it is, so each has a name here of its own.
Max pooling over planes takes a quarter of the time so, forward and backward.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.fx import GraphModule
from torch.library import Library

aten = torch.ops.aten

_KEPT: Final = (aten.max_pool2d_with_indices, aten.max_pool2d_with_indices_backward)
# Registered once, as this module is imported; the names live as long as the library does.
_LIBRARY: Any = Library("lincoln_fn", "DEF")  # type: ignore[no-untyped-call]  # torch's own
for packet in _KEPT:
    schema = str(packet.default._schema).removeprefix("aten::")
    _LIBRARY.define(schema)
    _LIBRARY.impl(schema.partition("(")[0], packet.default, "CompositeExplicitAutograd")


def keep(graph: GraphModule) -> None:
    """Give the operations that are to be kept the names that Inductor does not know.

    Args:
        graph: a traced step, which is changed.
    """
    for packet in _KEPT:
        own = getattr(torch.ops.lincoln_fn, packet.default._schema.name.removeprefix("aten::"))
        for node in graph.graph.find_nodes(op="call_function", target=packet.default):
            node.target = own.default
    graph.recompile()
