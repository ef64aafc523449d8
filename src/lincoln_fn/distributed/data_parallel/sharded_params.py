"""A layer whose parameters are divided among processes: the third stage of ZeRO.

Each process keeps a slice of the parameters W_1, ..., W_n, and the optimizer's state for it.

    forward     W = (W_1, ..., W_n) from all processes;  y, cache = forward(W, x);  W is freed
    backward    W = (W_1, ..., W_n) again;  dx, dW = backward(W, cache, g)
                process r receives slice r of every dW, and adds them up

Derivation. W_r is a part of W, so dW_r is that part of dW. Each process has examples of its own, so
dW is the sum over processes.

Cache: the layer's own.

**Clipping.** Some parameters are divided among the processes, and all processes have the others.
With dp_r for the gradient of process r,

    |dp|^2 = sum_r |dp_r|^2    over the divided parameters
             + |dp|^2          over the others, once

All processes compute the same norm, so they scale by the same factor. With the norm of
its own part, each process would scale the parameters that all have by another factor.

Source: Rajbhandari and others, "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models", SC 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, reduce
from itertools import count
from typing import Annotated, ClassVar, Final, TypeAlias

import optree
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import OR_INFINITE, Arrays, Key, Layer, Params, Positive, check_params, tree
from lincoln_fn.distributed.group import GROUP, Group
from lincoln_fn.optim import Optimizer, OptimizerState, Transform
from lincoln_fn.optim.internal import clip, cut, join, slice_rows, split_row
from lincoln_fn.walk import ENTRIES, Composition, VisitBack, VisitThere
from lincoln_fn.walk.internal import Record, VisitRecord, around, composition_of, gather_entries

# The shape and the strides of each whole parameter.
Forms: TypeAlias = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


@core.record
class Sharded:
    """This process's slices of a layer's parameters; states are whole."""

    is_slice: ClassVar[bool] = True

    slices: Params
    forms: Forms = core.static()


def collect(params: Sharded, group: Group) -> Params:
    """Collect a layer's parameters from all processes, each in its own memory layout."""
    core.check_params("fully_sharded", params, Sharded)
    shapes = [torch.Size(shape) for shape, _ in params.forms]
    joined = join(tree.leaves(params.slices), shapes, group)
    whole = [
        leaf if leaf.stride() == strides else leaf.new_empty_strided(shape, strides).copy_(leaf)
        for leaf, (shape, strides) in zip(joined, params.forms, strict=True)
    ]
    return tree.unflatten(params.slices, whole)


def whole(params: Params, group: Group) -> Params:
    """Collect the parameters of every `fully_sharded` part, to predict or to save them.

    All processes must call it. The params are those of the network without `fully_sharded`.

    Example:
        >>> group, x = lf.distributed.alone(), torch.ones(1, 3)
        >>> params = lf.distributed.fully_sharded(lf.dense(4), group).init(lf.Key(0), x)
        >>> whole(params, group)
        Params(weight=float32[3, 4], bias=float32[4])
    """
    return optree.tree_map(
        lambda node: collect(node, group) if isinstance(node, Sharded) else node,
        params, is_leaf=lambda node: isinstance(node, Sharded), namespace=core.EVERYTHING,
    )  # fmt: skip


def find_sharded_leaves(params: Params) -> Iterator[tuple[list[int], list[tuple[int, ...]]]]:
    """Give the positions of the leaves of each `Sharded` in params, and their whole shapes."""
    position = count()
    nodes = optree.tree_leaves(
        params, is_leaf=lambda node: isinstance(node, Sharded), namespace=core.TRAINED
    )
    for node in nodes:
        positions = [next(position) for _ in tree.leaves(node)]
        if isinstance(node, Sharded):
            yield positions, [shape for shape, _ in node.forms]


@core.checked
def clip_by_global_norm(
    max_norm: Annotated[Positive, OR_INFINITE], group: Group, *, like: Params = None
) -> Transform:
    """Scale all gradients together so that the norm of the whole is at most max_norm.

    It computes what `lf.optim.clip_by_global_norm` computes in one process that has all parameters.
    It is needed where parameters are divided: by `fully_sharded`, or in parallel layers.

    Args:
        like: the params of the network of plain layers, of which only the shapes matter. A
            parameter of parallel layers is divided if its shape differs. None if there are no
            parallel layers.

    Example:
        >>> clip = clip_by_global_norm(10.0, lf.distributed.alone())
        >>> dp = torch.tensor([30.0, 40.0])
        >>> lf.optim.chain(clip, lf.optim.sgd(1.0)).update(torch.zeros(2), dp, ())[0]
        tensor([-6.0000, -8.0000])
    """
    shapes = None if like is None else [leaf.shape for leaf in tree.leaves(like)]
    name = f"clip_by_global_norm({max_norm!r}, {GROUP})"
    return Transform(name, partial(_around, max_norm, group, shapes))


def _around(
    max_norm: float, group: Group, shapes: list[torch.Size] | None, inner: Optimizer
) -> Optimizer:
    return Optimizer(inner.name, inner.init, partial(_update, max_norm, group, shapes, inner))


def _update(
    max_norm: float, group: Group, shapes: list[torch.Size] | None, inner: Optimizer,
    params: Params, grads: Params, state: OptimizerState,
) -> tuple[Params, OptimizerState]:  # fmt: skip
    """Take the inner optimizer's step with the gradients dp min(1, max / |dp|)."""
    divided = {i for positions, _ in find_sharded_leaves(grads) for i in positions}
    leaves = tree.leaves(grads)
    if shapes is not None:  # of the whole parameters
        if len(shapes) != len(leaves):
            expected = f"params of {len(leaves)} tensors"
            raise core.unexpected("clip_by_global_norm", expected, f"like with {len(shapes)}")
        pairs = enumerate(zip(leaves, shapes, strict=True))
        divided |= {i for i, (leaf, shape) in pairs if leaf.shape != shape}
    return inner.update(params, clip(grads, _norm(leaves, divided, group), max_norm), state)


def _norm(grads: list[Tensor], divided: set[int], group: Group) -> Tensor:
    if not grads:
        return torch.zeros(())
    # In float64, so that in float32 the norm does not depend on how the parameters are divided.
    squares = torch.stack([g.double().square().sum() for g in grads])
    is_divided = torch.tensor([i in divided for i in range(len(grads))], device=squares.device)
    own, others = squares[is_divided].sum(), squares[~is_divided].sum()
    dtype = torch.promote_types(grads[0].dtype, torch.float32)
    return (group.gather(own).sum() + others).sqrt().to(dtype)


# Collects parameters for a call alone, or once for calls that are made at the same time.
Collect: TypeAlias = Callable[[Sharded], Params]
NAME: Final = "fully_sharded"


def _there(
    visit: VisitThere, params: Sharded, x: Arrays, *, collect: Collect
) -> tuple[Arrays, Record]:
    return visit(0, collect(params), x)


def _back(
    visit: VisitBack, params: Sharded, cache: core.Cache, g: Arrays, *, collect: Collect
) -> tuple[Arrays, Record]:
    return visit(0, collect(params), cache, g)


def _gather(visit: VisitRecord, params: Sharded, records: Record, *, group: Group) -> Sharded:
    """Compute dW_r, the sum of the processes' slices."""
    check_params(NAME, params, Sharded)
    leaves = tree.leaves(visit(0, params.slices, records))
    sent = slice_rows(leaves, group.size)
    received = group.exchange(sent, [sent.shape[1]] * group.size).view(group.size, -1)
    slices = split_row(reduce(torch.add, received.unbind()), leaves, group)
    return Sharded(tree.unflatten(params.slices, slices), params.forms)


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays, *, group: Group) -> Sharded:
    params = parts[0].init(key, x)
    leaves = tree.leaves(params)
    dtypes = {leaf.dtype for leaf in leaves}
    if len(dtypes) != 1:
        given = ", ".join(sorted(str(dtype) for dtype in dtypes)) or "none"
        expected = "parameters of one dtype"
        raise core.unexpected(f"{NAME}({parts[0]})", expected, given, "shard the parts apart")
    forms = tuple((tuple(leaf.shape), leaf.stride()) for leaf in leaves)
    return Sharded(tree.unflatten(params, cut(leaves, group)), forms)


def _advance(visit: VisitThere, params: Sharded, cache: core.Cache) -> Sharded:
    check_params(NAME, params, Sharded)
    return Sharded(visit.advance(0, params.slices, cache), params.forms)


@core.checked
def fully_sharded(layer: Layer, group: Group) -> Layer:
    """Divide a layer's parameters, gradients and optimizer state among processes: ZeRO-3.

    The walks collect the parameters from all processes just before they need them, and free them
    afterwards. Shard the blocks of a network one by one: then a process has one block's parameters
    at a time. Every call of the layer's functions communicates, so all processes must make it. Its
    params are `Sharded`: vectors in place of the parameters. The optimizer must update each number
    by itself. To clip, use `distributed.clip_by_global_norm`.

    Raises:
        LayerError: from `init`, if the parameters have several dtypes or there are none.

    Example:
        >>> net, x = fully_sharded(lf.dense(4), lf.distributed.alone()), torch.ones(1, 3)
        >>> net.init(lf.Key(0), x).slices
        Params(weight=float32[12], bias=float32[4])
    """
    there, back = (partial(f, collect=partial(collect, group=group)) for f in (_there, _back))
    return around(
        fully_sharded, layer, there, back, arrange=ENTRIES,
        gather=partial(_gather, group=group), init=partial(_init, group=group),
        advance=_advance, mask="part", call=partial(core.call_of_parts, fully_sharded, group=group),
    )  # fmt: skip


def collect_once(net: Layer, part: Layer, once: Callable[[Callable[[], Params]], Params]) -> Layer:
    """Make a `fully_sharded` of another part, which collects its parameters by `once`."""
    assert net.spec is not None, "`fully_sharded` made it"
    group = net.spec["group"]

    def collected(params: Sharded) -> Params:
        return once(partial(collect, params, group))

    there, back = (partial(f, collect=collected) for f in (_there, _back))
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
