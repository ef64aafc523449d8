"""Looking inside a network: what each layer gave and got, in one pass forward and back."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import attrs
import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn._table import table
from lincoln_fn._visits import Visit, visits
from lincoln_fn.layer import Arrays, Layer, Params
from lincoln_fn.losses.loss import Loss
from lincoln_fn.record import brief
from lincoln_fn.shapes import LayerError


@attrs.frozen
class NonFinite:
    """The first value of a layer that is `nan` or infinite.

    Args:
        where: "output", which is looked at first, or "gradient".
        entry: the path within a tuple of several tensors, such as "1"; "" for a single tensor.
        index: of the value in its tensor.
        value: it.
    """

    where: Literal["output", "gradient"]
    entry: str
    index: tuple[int, ...]
    value: float

    def __str__(self) -> str:
        entry = self.entry and f".{self.entry}"
        return f"{self.where}{entry}{list(self.index)} is {self.value}"


@attrs.frozen(eq=False)
class LayerTrace:
    """What one use of a single layer gave and got.

    Args:
        path: positions in `parts`, from the outermost, joined by dots; "" for the whole network.
        name: the layer's.
        use: which of the layer's uses it is, from 1; a `shared` layer has several.
        output: y.
        gradient: dL/dy; None where no backward pass came by.
        output_norm: the Euclidean norm of y; like the others, None where there is nothing of it.
        gradient_norm: that of dL/dy.
        dparams_norm: that of the gradient of the layer's parameters; None also where they are
            frozen.
        dead: the share of y's units that are 0 for every example, as `trace` says.
        non_finite: the first value that is not finite, if any.
    """

    path: str
    name: str
    use: int
    output: Arrays = attrs.field(repr=brief)
    gradient: Arrays = attrs.field(repr=brief)
    output_norm: float | None
    gradient_norm: float | None
    dparams_norm: float | None
    dead: float | None
    non_finite: NonFinite | None

    @property
    def label(self) -> str:
        """Path, name and, from the second on, the use: what tells the layer from all others."""
        again = f", use {self.use}" if self.use > 1 else ""
        return f"{self.path} {self.name}{again}".lstrip()


class Trace(tuple[LayerTrace, ...]):
    """The records of all single layers in the order of their use; its str is a table."""

    __slots__ = ()

    def outputs(self) -> dict[str, Arrays]:
        """Give each layer's y by its label, as `lf.plots.activations` takes them."""
        return {layer.label: layer.output for layer in self}

    def gradient_norms(self) -> dict[str, float]:
        """Give the norm of each dL/dy by the layer's label, as `lf.plots.gradient_norms` does."""
        pairs = ((layer.label, layer.gradient_norm) for layer in self)
        return {label: norm for label, norm in pairs if norm is not None}

    def __str__(self) -> str:
        headings = ("path", "layer", "output", "|output|", "|gradient|", "|dparams|", "dead", "")
        return table(headings, [_cells(layer) for layer in self], left=3)


def _cells(layer: LayerTrace) -> tuple[str, ...]:
    norms = (layer.output_norm, layer.gradient_norm, layer.dparams_norm)
    return (
        layer.path,
        layer.label[len(layer.path) :].lstrip(),
        brief(layer.output),
        *("-" if norm is None else f"{norm:.4g}" for norm in norms),
        "-" if layer.dead is None else f"{layer.dead:.1%}",
        str(layer.non_finite or ""),
    )


def trace(
    net: Layer,
    params: Params,
    x: Arrays,
    loss: Loss,
    target: Arrays,
    *,
    unit_axis: int | None = None,
) -> Trace:
    """Run a network forward and back, and tell of every single layer what it gave and got.

    The run is that of a training step, but for `advance` and the update: dropout is on, batch norm
    uses the batch. A layer within a composition is a layer like any other; one that is used several
    times has a record for each use; what `checkpointed` runs again is recorded once.

    The units of an output are the positions along one of its axes: the channels, axis 1, of an
    output of four axes or more, as images have; else the features, the last axis. A unit is dead if
    it is exactly 0 for every example and at every other position.

    Args:
        net: the network.
        params: its parameters.
        x: its input.
        loss: with reduction mean or sum.
        target: what the loss takes beside the prediction.
        unit_axis: the axis of the units of every output; 1 for a network of 1d convolutions. An
            output without that axis, or of one axis alone, has no share of dead units.

    Returns:
        One record for each use of a single layer, in the order of their use.

    Raises:
        LayerError: as the network or the loss do, or if the loss is not one number.

    Example:
        >>> net = lf.serial(lf.dense(2), lf.relu())
        >>> x, params = torch.eye(2), net.init(lf.Key(0), torch.eye(2))
        >>> records = trace(net, params, x, lf.losses.mse(), torch.zeros(2, 2))
        >>> [(layer.path, layer.name, brief(layer.gradient)) for layer in records]
        [('0', 'dense(2)', 'float32[2, 2]'), ('1', 'relu()', 'float32[2, 2]')]
    """

    def turn(prediction: Arrays) -> Arrays:
        value, cache = loss.forward(prediction, target)
        if value.ndim:
            mend = "use reduction='mean' or 'sum'"
            raise LayerError(loss.name, f"expected one number, got {tuple(value.shape)}; {mend}")
        return loss.backward(cache)

    with torch.no_grad():
        seen, gradients = visits(net, params, x, turn)
    uses: Counter[str] = Counter()
    records = []
    for number, visit in seen.items():
        if visit.layer.rebuild is None:
            uses[visit.path] += 1
            g, dparams = gradients.get(number, (None, None))
            records.append(_recorded(visit, uses[visit.path], g, dparams, unit_axis))
    return Trace(records)


def _recorded(
    visit: Visit, use: int, g: Arrays, dparams: Params, unit_axis: int | None
) -> LayerTrace:
    return LayerTrace(
        path=visit.path,
        name=visit.layer.name,
        use=use,
        output=visit.y,
        gradient=g,
        output_norm=_norm(visit.y),
        gradient_norm=_norm(g),
        dparams_norm=_norm(dparams),
        dead=_dead_share(visit.y, unit_axis),
        non_finite=_first_non_finite("output", visit.y) or _first_non_finite("gradient", g),
    )


def _norm(arrays: Arrays) -> float | None:
    # In double precision, for the square of a large float32 is infinite.
    norms = [torch.linalg.vector_norm(leaf, dtype=torch.float64) for leaf in _floating(arrays)]
    return torch.linalg.vector_norm(torch.stack(norms)).item() if norms else None


def _dead_share(y: Arrays, unit_axis: int | None) -> float | None:
    dead = []
    for leaf in _floating(y):
        axis = (1 if leaf.ndim >= 4 else -1) if unit_axis is None else unit_axis
        if leaf.ndim >= 2 and leaf.numel() and -leaf.ndim <= axis < leaf.ndim:
            dead.append((leaf == 0).movedim(axis, 0).flatten(1).all(1))
    return torch.cat(dead).double().mean().item() if dead else None


def _first_non_finite(where: Literal["output", "gradient"], arrays: Arrays) -> NonFinite | None:
    for entry, leaf in zip(tree.paths(arrays), tree.leaves(arrays), strict=True):
        found = torch.nonzero(~torch.isfinite(leaf))
        if len(found):
            index = tuple(found[0].tolist())
            return NonFinite(where, entry, index, leaf[index].item())
    return None


def _floating(arrays: Arrays) -> list[Tensor]:
    return [leaf for leaf in tree.leaves(arrays) if leaf.is_floating_point()]
