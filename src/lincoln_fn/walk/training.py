"""The backward walk of a training step, which owns its caches."""

from __future__ import annotations

from lincoln_fn.core.layer import Arrays, Cache, Layer, Params
from lincoln_fn.walk.parts import take_ownership, to_tuple
from lincoln_fn.walk.visits import Record
from lincoln_fn.walk.walks import BackWalker, Wants


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
    return walker.run(net, "", params, cache, g, Wants(dx=False, dparams=True))[1]
