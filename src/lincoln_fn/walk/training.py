"""The walks of a training step, which keeps only the caches that it reads, each until it is read.

In a network with a frozen part, the cache of a part is read if the part is trained, or if a part
before it needs its dx, or if it advances a state. Any other is dropped at once. Where only
`input_grad` reads a cache, or only `advance`, it keeps what that function declares to read.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.declaration import declared_by, input_grad_of
from lincoln_fn.core.layer import Arrays, Cache, Layer, Params, unchanged
from lincoln_fn.errors.kinds import check_pair
from lincoln_fn.walk.composition import composition_of
from lincoln_fn.walk.parts import is_trained, take_ownership, to_tuple
from lincoln_fn.walk.visits import Forward, PartsThere, Record
from lincoln_fn.walk.walks import BackWalker
from lincoln_fn.walk.wants import ALL, DPARAMS, DX, Wants


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
    return _TRAINING.run(net, "", params, x, DPARAMS)


class _Training(Forward):
    """The walk that keeps the caches which the walk back will read."""

    def run(
        self, part: Layer, path: str, params: Params, x: Arrays, wants: Wants
    ) -> tuple[Arrays, Cache]:
        """Compute y, and what the walk back reads if it has to compute `wants`."""
        if wants is ALL and not is_trained(params):
            wants = DX
        made = composition_of(part)
        if made is None or (wants.dparams and not made.has_frozen):
            result = part.forward(params, x)
            check_pair(part.name, "forward", result)
            y, cache = result
        else:
            y, cache = made.there(PartsThere(made, self, path, params, wants), params, x)
        if wants.dparams:
            return y, cache
        is_still = part.advance is unchanged
        if is_still and not wants.dx:
            return y, None
        if made is not None or (wants.dx and not is_still):
            return y, cache
        reader = input_grad_of(part) if wants.dx else declared_by(part.advance)
        return y, cache if reader.reads is None else _keep_entries(cache, reader.reads)


_TRAINING: Final = _Training()


def _keep_entries(cache: Cache, reads: tuple[str, ...]) -> Cache:
    """Keep some tensors of a cache, and of the others only the shapes."""
    paths = iter(tree.paths(cache, states=True))

    def keep(leaf: Tensor) -> Tensor:
        return leaf if next(paths) in reads else leaf.new_zeros(()).expand(leaf.shape)

    return tree.map(keep, cache, states=True)


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
