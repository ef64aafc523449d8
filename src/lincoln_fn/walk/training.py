"""The walks of a training step, which keeps only the caches that it reads, each until it is read.

In a network with a frozen part, the cache of a part is read if the part is trained, or if a part
before it needs its dx, or if it advances a state. Any other is dropped at once. Where only
`input_grad` reads a cache, or only `advance`, it keeps what that function declares to read.
"""

from __future__ import annotations

import attrs
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.declaration import declared_by, input_grad_of
from lincoln_fn.core.layer import Arrays, Cache, Layer, Params, unchanged
from lincoln_fn.walk.composition import Composition, composition_of
from lincoln_fn.walk.parts import (
    ERRORS,
    is_trained,
    place_error,
    take_ownership,
    to_tuple,
)
from lincoln_fn.walk.visits import Record
from lincoln_fn.walk.walks import BackWalker
from lincoln_fn.walk.wants import ALL, DPARAMS, DX, Wants, wants_of_part


def forward_to_train(net: Layer, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
    """Compute y, as `net.forward` does, and the part of the cache that a training step reads.

    Args:
        net: the network.
        params: its parameters.
        x: its input.

    Returns:
        y, and the cache for `gradients` and `net.advance`. Of a part that is not trained, and whose
        dx nobody needs, it holds nothing.

    Raises:
        LayerError: as `forward` does.

    Example:
        >>> net, x = lf.serial(lf.frozen(lf.dense(2)), lf.dense(3)), torch.ones(1, 4)
        >>> forward_to_train(net, net.init(lf.Key(0), x), x)[1][0]
    """
    return _forward(net, params, x, DPARAMS)


def _forward(layer: Layer, params: Params, x: Arrays, wants: Wants) -> tuple[Arrays, Cache]:
    """Compute y, and what the walk back reads if it has to compute `wants`."""
    made = composition_of(layer)
    if made is None or (wants.dparams and not made.has_frozen):
        y, cache = layer.forward(params, x)
    else:
        y, cache = made.there(_TrainingVisit(made, params, wants), params, x)
    if wants.dparams:
        return y, cache
    is_still = layer.advance is unchanged
    if is_still and not wants.dx:
        return y, None
    if made is not None or (wants.dx and not is_still):
        return y, cache
    reader = input_grad_of(layer) if wants.dx else declared_by(layer.advance)
    return y, cache if reader.reads is None else _keep_entries(cache, reader.reads)


def _keep_entries(cache: Cache, reads: tuple[str, ...]) -> Cache:
    """Keep some tensors of a cache, and of the others only the shapes."""
    paths = iter(tree.paths(cache, states=True))

    def keep(leaf: Tensor) -> Tensor:
        return leaf if next(paths) in reads else leaf.new_zeros(()).expand(leaf.shape)

    return tree.map(keep, cache, states=True)


# Never changed, but not frozen: one is made for each composition of each walk.
@attrs.define(eq=False)
class _TrainingVisit:
    """The visitor of a loop there that keeps the caches which the loop back will read."""

    composition: Composition
    params: Params
    wants: Wants

    @property
    def label(self) -> str:
        """The composition's name in errors."""
        return self.composition.label

    @property
    def parts(self) -> tuple[Layer, ...]:
        """The parts; their errors name their position."""
        return self.composition.placed

    def __call__(self, i: int, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        """Visit part i."""
        made = self.composition
        part = made.parts[i]
        wants = wants_of_part(made.needs_dx, i, self.params, params, self.wants)
        if wants is ALL and not is_trained(params):
            wants = DX
        try:
            return _forward(part, params, x, wants)
        except ERRORS as error:
            placed_error = place_error(error, f"{self.label}[{i}]", part.name, "forward", x)
            raise placed_error from placed_error.__cause__

    def advance(self, i: int, params: Params, record: Record) -> Params:
        """Advance the state of part i."""
        advanced: Params = self.parts[i].advance(params, record)
        return advanced


def gradients(net: Layer, params: Params, cache: Cache, g: Arrays) -> Params:
    """Compute dparams, as `net.grads` does, from a cache without other references.

    Each part's cache is freed as soon as the walk has passed the part, if the caller keeps no
    reference to it.

    Args:
        net: the network.
        params: those given to `forward`.
        cache: what `forward` returned, or `lincoln_fn.walk.parts.take_ownership` of it.
        g: dL/dy.

    Returns:
        dparams.

    Raises:
        LayerError: as `grads` does.

    Example:
        >>> net, x = lf.dense(2), torch.ones(1, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> gradients(net, params, net.forward(params, x)[1], torch.ones(1, 2)).bias
        tensor([1., 1.])
    """
    return net.grads(
        params, to_tuple(cache) if net.composition is None else take_ownership(cache), g
    )


def records(walker: BackWalker, net: Layer, params: Params, cache: Cache, g: Arrays) -> Record:
    """Walk back only for the records: the dx of the first trained layer is not computed."""
    return walker.run(net, "", params, cache, g, DPARAMS)[1]
