"""A layer whose parameters are divided among processes: the third stage of ZeRO.

Each process keeps a slice of the parameters W_1, ..., W_n, and the optimizer's state for it.

    forward     W = (W_1, ..., W_n) from all processes;  y, cache = forward(W, x);  W is freed
    backward    W = (W_1, ..., W_n) again;  dx, dW = backward(W, cache, g)
                process r receives slice r of every dW, and adds them up

Derivation. W_r is a part of W, so dW_r is that part of dW. Each process has examples of its own, so
dW is the sum over processes.

Cache: the layer's own.

Source: Rajbhandari and others, "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models", SC 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Final, TypeAlias

import torch

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, check_params, tree, unexpected
from lincoln_fn.distributed.data_parallel.sharded_params import Sharded, collect
from lincoln_fn.distributed.group import Group
from lincoln_fn.optim.internal import cut, slice_rows, split_row
from lincoln_fn.walk import Composition, VisitBack, VisitThere, composition
from lincoln_fn.walk.internal import Record, VisitRecord, composition_of, gather_entries

# Collects parameters for this call alone, or once for calls that are made at the same time.
Once: TypeAlias = Callable[[Callable[[], Params]], Params]
NAME: Final = "fully_sharded"


def _now(collect: Callable[[], Params]) -> Params:
    return collect()


def _there(
    visit: VisitThere, params: Sharded, x: Arrays, *, group: Group, once: Once = _now
) -> tuple[Arrays, Record]:
    return visit(0, once(partial(collect, params, group)), x)


def _back(
    visit: VisitBack, params: Sharded, cache: Cache, g: Arrays, *, group: Group, once: Once = _now
) -> tuple[Arrays, Record]:
    """Collect the parameters, and go back through the layer."""
    return visit(0, once(partial(collect, params, group)), cache, g)


def _gather(visit: VisitRecord, params: Sharded, records: Record, *, group: Group) -> Sharded:
    """Compute dW_r, the sum of the processes' slices."""
    check_params(NAME, params, Sharded)
    leaves = tree.leaves(visit(0, params.slices, records))
    sent = slice_rows(leaves, group.size)
    received = group.exchange(sent, [sent.shape[1]] * group.size).view(group.size, -1)
    slices = iter(split_row(reduce(torch.add, received.unbind()), leaves, group))
    return Sharded(tree.map(lambda _: next(slices), params.slices), params.forms)


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays, *, group: Group) -> Sharded:
    params = parts[0].init(key, x)
    leaves = tree.leaves(params)
    dtypes = {leaf.dtype for leaf in leaves}
    if len(dtypes) != 1:
        given = ", ".join(sorted(str(dtype) for dtype in dtypes)) or "none"
        expected = "parameters of one dtype"
        raise unexpected(f"{NAME}({parts[0]})", expected, given, "shard the parts apart")
    forms = tuple((tuple(leaf.shape), leaf.stride()) for leaf in leaves)
    slices = iter(cut(leaves, group))
    return Sharded(tree.map(lambda _: next(slices), params), forms)


def _advance(visit: VisitThere, params: Sharded, cache: Cache) -> Sharded:
    check_params(NAME, params, Sharded)
    return Sharded(visit.advance(0, params.slices, cache), params.forms)


def _needs_dx(i: int, params: Params) -> bool:
    return False


@core.checked
def fully_sharded(layer: Layer, group: Group) -> Layer:
    """Divide a layer's parameters, gradients and optimizer state among processes: ZeRO-3.

    The walks collect the parameters from all processes just before they need them, and free them
    afterwards. Shard the blocks of a network one by one: then a process has one block's parameters
    at a time. Every call of the layer's functions communicates, so all processes must make it.

    Returns:
        The layer. Its params are `Sharded`: vectors in place of the parameters. The optimizer must
        update each number by itself. To clip, use `distributed.clip_by_global_norm`.

    Raises:
        LayerError: from `init`, if the parameters have several dtypes or there are none.

    Example:
        >>> net, x = fully_sharded(lf.dense(4), lf.distributed.alone()), torch.ones(1, 3)
        >>> net.init(lf.Key(0), x).slices
        Params(weight=float32[12], bias=float32[4])
    """
    return composition(
        fully_sharded, (layer,), partial(_there, group=group), partial(_back, group=group),
        gather=partial(_gather, group=group), init=partial(_init, group=group),
        advance=_advance, needs_dx=_needs_dx, mask="part",
        call=partial(core.call_of_parts, fully_sharded, group=group),
    )  # fmt: skip


def collect_once(net: Layer, part: Layer, once: Once) -> Layer:
    """Make a `fully_sharded` of another part, which collects its parameters by `once`."""
    assert net.spec is not None, "`fully_sharded` made it"
    there, back = (partial(f, once=once, group=net.spec["group"]) for f in (_there, _back))
    return net.rebuild((part,), there=there, back=back)


def is_fully_sharded(made: Composition) -> bool:
    """Return whether a composition is a `fully_sharded`."""
    return isinstance(made.gather, partial) and made.gather.func is _gather


def check_sharding(net: Layer, *, within: str = "") -> None:
    """Check that no composition adds up the gradients of a `fully_sharded` part itself."""
    made = composition_of(net)
    if made is None:
        return
    if is_fully_sharded(made):
        if within:
            problem = f"expected it outside of {within}, which uses parameters in its own way"
            raise core.LayerError(net.name, f"{problem}; write fully_sharded({within}(...), group)")
        within = NAME
    elif made.gather is not gather_entries:
        within = made.label
    for part in made.parts:
        check_sharding(part, within=within)
