"""Whether relevance is conserved, and which layers gain or lose it.

A rule conserves relevance if the sum over x is the sum over y. Biases, stabilizers and the
linearised softmax of attention do not.
"""

from __future__ import annotations

import attrs

from lincoln_fn.attribution.lrp import Relevance
from lincoln_fn.core import Arrays, called, checked, tree
from lincoln_fn.inspect.internal import table


@attrs.frozen
class LayerSums:
    """The sums of the relevance of a layer's output and input.

    Args:
        path: the layer's or the composition's; "" is the network's.
        name: its name.
        y: the sum over its output.
        x: the sum over its input; None if that has no relevance, such as indices.
    """

    path: str
    name: str
    y: float
    x: float | None

    @property
    def lost(self) -> float:
        """How much the layer lost: y - x. It is 0 if x has no relevance, which ends there."""
        return 0.0 if self.x is None else self.y - self.x


class Conservation(tuple[LayerSums, ...]):
    """The sums of all layers, from the network's output to its input; its str is a table."""

    __slots__ = ()

    @property
    def lost(self) -> float:
        """How much the network lost: the sum over its single layers."""
        whole = {layer.path.rpartition(".")[0] for layer in self if layer.path}
        return sum(layer.lost for layer in self if layer.path not in whole)

    def __str__(self) -> str:
        headings = ("path", "layer", "sum over y", "sum over x", "lost")
        rows = [
            (
                layer.path,
                called(layer.name),
                f"{layer.y:.6g}",
                "-" if layer.x is None else f"{layer.x:.6g}",
                f"{layer.lost:.3g}",
            )
            for layer in self
        ]
        return table(headings, rows, left=2)


@checked
def conservation(relevance: Relevance) -> Conservation:
    """Compare the sums of relevance before and behind every layer and composition.

    Args:
        relevance: what `lrp` returned.

    Returns:
        A record for each, with the sums over all examples.

    Example:
        >>> net, x = lf.serial(lf.tanh(), lf.residual(lf.relu())), torch.ones(1, 2)
        >>> found = lf.attribution.lrp(net, net.init(lf.Key(0), x), x, 0)
        >>> abs(conservation(found).lost) < 1e-5
        True
    """
    return Conservation(
        LayerSums(layer.path, layer.name, _sum(layer.y) or 0.0, _sum(layer.x))
        for layer in relevance.layers
    )


def _sum(arrays: Arrays) -> float | None:
    leaves = tree.leaves(arrays)
    return sum(leaf.double().sum().item() for leaf in leaves) if leaves else None
