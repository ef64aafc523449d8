"""Dense layers divided among processes, by the columns of W or by its rows; dropout between them.

A column-parallel layer computes y_r = x W_r + b_r in process r, its part of y's features. The
columns of W are divided, and so is b:

    W = [W_0 W_1 ... W_(n-1)]
    y = [y_0 y_1 ... y_(n-1)]    with y_r = x W_r + b_r

Derivation. All processes have the same x, so forward sends nothing. Every y_r depends on x. With
g_r for dL/dy_r, `layers/dense.py` derives

    dx = sum_r g_r W_r^T
    dW_r = x^T g_r
    db_r = sum g_r    over the rows

dW_r and db_r need nothing of the other processes. In dx, each process computes its own term, and
`sum_over` adds them up. With `gather_output`, all processes get the whole y. Then they all have the
same g, of which g_r is a part.

In a row-parallel layer, the rows of W are divided as x's features are:

    x = [x_0 x_1 ... x_(n-1)]
    y = x W + b = sum_r x_r W_r + b    with W_r the rows of W for x_r

Each process computes its own term, and `sum_over` adds them up. Process 0 adds b to its term, so
that b is added once.

Derivation. All processes have the same y, so they have the same g, and backward sends nothing:

    dx_r = g W_r^T
    dW_r = x_r^T g
    db = sum g    over the rows

Every process has the whole b, and computes the same db. Without `input_is_parallel`, all processes
have the whole x. Then each takes its own x_r from it, and all get the whole dx = [dx_0 dx_1 ...].

Derivation of dropout of a tensor that is divided, too. With M for the mask of the whole x, drawn
from the key that all processes have,

    y_r = x_r M_r scale
    dx_r = g_r M_r scale

as in `layers/dropout.py`, where M_r is the part of M that belongs to x_r. Every process draws the
whole M, which takes the time of one process's draw, and keeps its own part. So the mask does not
depend on the number of processes.

Cache: x, or x_r; of dropout, M_r and scale.
"""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, Layer, PositiveInt, Probability, bare, constructor
from lincoln_fn.distributed.group import GROUP, Group, check_divisible
from lincoln_fn.distributed.tensor_parallel import collectives
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layers import dense, dropout
from lincoln_fn.walk.internal import Record, VisitThere, around


def divide_columns(part: Layer, group: Group, *, gather_output: bool, name: str) -> Layer:
    """Make the layer whose y is divided among the processes, each with one such part."""
    arguments = {"part": part, "group": group, "gather_output": gather_output, "name": name}
    after = collectives.JOINED if gather_output else collectives.SAME
    call = core.Spec(divide_columns, arguments, name)
    ends = collectives.there, collectives.back
    loops = (partial(loop, group=group, before=collectives.COPIED, after=after) for loop in ends)
    return around("column_parallel", part, *loops, call=call)


def copy_own_columns(whole: dense.Params, group: Group) -> dense.Params:
    """Copy the own columns of W and the own part of b, so that the whole can be freed."""
    return core.tree.map(lambda leaf: collectives.take_own_part(leaf, group).clone(), whole)


def _init_columns(key: Key, x: Arrays, *, whole: Layer, group: Group) -> dense.Params:
    return copy_own_columns(whole.init(key, x), group)


@constructor
def column_parallel(
    n_out: PositiveInt,
    group: Group,
    *,
    bias: bool = True,
    gather_output: bool = False,
    weight_init: Initializer = fan_in_uniform(),
    bias_init: Initializer = fan_in_uniform(),
) -> Layer:
    """Divide the outputs of a dense layer among processes: y_r = x W_r + b_r.

    All processes have the same x, of shape (..., n_in). The y of each has shape (..., n_out / n),
    for n processes. `row_parallel` takes it as it is. Forward sends nothing, and backward adds up
    dx, so all processes must call it. The params are `layers.dense.Params`: weight (n_in, n_out /
    n) and bias (n_out / n,). The parts of all processes together are what `lf.dense` draws from the
    same key.

    Args:
        n_out: the number of features of the whole y, a multiple of the number of processes.
        gather_output: whether all processes get the whole y, of shape (..., n_out).
        weight_init: draws the whole W, of which each process keeps its own columns.

    Source:
        Shoeybi and others, "Megatron-LM", 2019, section 3.

    Example:
        >>> group, x = lf.distributed.alone(), torch.ones(5, 3)
        >>> layer = column_parallel(4, group)
        >>> layer, layer.predict(layer.init(lf.Key(0), x), x).shape
        (column_parallel(4, group), torch.Size([5, 4]))
    """
    check_divisible("column_parallel", "n_out", n_out, group)
    plain = partial(dense.dense, bias=bias, weight_init=weight_init, bias_init=bias_init)
    whole, part = plain(n_out), plain(n_out // group.size)
    part = part.replace(init=partial(_init_columns, whole=whole, group=group))
    return bare(lambda call: divide_columns(part, group, gather_output=gather_output, name=call))


# The part of a process, or without input_is_parallel the whole.
Inputs: TypeAlias = Float[Tensor, "*batch n_in"]

NAME = "row_parallel"
# The name of one with as many outputs as the composition's x has features.
_OPEN = f"row_parallel(features, {GROUP})"


def there(
    visit: VisitThere, params: dense.Params, x: Inputs, *, group: Group,
    before: collectives.Between,
) -> tuple[Float[Tensor, "*batch n_out"], Record]:  # fmt: skip
    """Compute y = sum_r x_r W_r + b."""
    core.check_input(NAME, params, x, dense.Params)
    if before is collectives.DIVIDED:
        check_divisible(NAME, "x's features", x.shape[-1], group)
    bias = params.bias if group.rank == 0 else None
    y, record = visit(0, dense.Params(params.weight, bias), before.there(x, group))
    return collectives.sum_over(y, group), record


def copy_own_rows(whole: dense.Params, group: Group) -> dense.Params:
    """Copy the own rows of W, so that the whole can be freed, and keep all of b."""
    return dense.Params(collectives.take_own_part(whole.weight, group, 0).clone(), whole.bias)


def _init_rows(
    parts: tuple[Layer, ...], key: Key, x: Inputs, *, group: Group, input_is_parallel: bool
) -> dense.Params:
    core.check_input(NAME, (), x)
    if x.ndim and input_is_parallel:
        x = x.new_empty(x.shape[-1] * group.size)
    elif x.ndim:
        check_divisible(NAME, "x's features", x.shape[-1], group)
    return copy_own_rows(parts[0].init(key, x), group)


def divide_rows(
    whole: Layer, group: Group, *, input_is_parallel: bool = True, call: core.Spec | str = _OPEN
) -> Layer:
    """Make the layer whose x is divided among the processes; `whole` draws all rows of W."""
    before = collectives.SAME if input_is_parallel else collectives.DIVIDED
    add_up = partial(there, group=group, before=before)
    go_back = partial(collectives.back, group=group, before=before, after=collectives.ADDED)
    init = partial(_init_rows, group=group, input_is_parallel=input_is_parallel)
    return around(NAME, whole, add_up, go_back, init=init, call=call)


@constructor
def row_parallel(
    n_out: PositiveInt,
    group: Group,
    *,
    bias: bool = True,
    input_is_parallel: bool = True,
    weight_init: Initializer = fan_in_uniform(),
    bias_init: Initializer = fan_in_uniform(),
) -> Layer:
    """Divide the inputs of a dense layer among processes: y = sum_r x_r W_r + b.

    The x of each process has shape (..., n_in / n), for n processes, as `column_parallel` returns
    it. All processes get the same y, of shape (..., n_out). Forward adds up y, so all processes
    must call it, and backward sends nothing. The params are `layers.dense.Params`: weight (n_in /
    n, n_out) and bias (n_out,). The parts of all processes together are what `lf.dense` draws from
    the same key.

    Args:
        n_out: the number of features of y. That of x is found from the example input.
        input_is_parallel: whether x is the own part of a process. If not, all processes have the
            same x, of shape (..., n_in), where n_in is a multiple of their number.
        weight_init: draws the whole W, of which each process keeps its own rows.

    Source:
        Shoeybi and others, "Megatron-LM", 2019, section 3.

    Example:
        >>> group, x = lf.distributed.alone(), torch.ones(5, 3)
        >>> layer = row_parallel(4, group)
        >>> layer, layer.predict(layer.init(lf.Key(0), x), x).shape
        (row_parallel(4, group), torch.Size([5, 4]))
    """
    whole = dense.dense(n_out, bias=bias, weight_init=weight_init, bias_init=bias_init)
    return bare(
        lambda call: divide_rows(whole, group, input_is_parallel=input_is_parallel, call=call)
    )


def forward(
    params: dropout.Params, x: Float[Tensor, "*s"], *, p: float, group: Group, axis: int
) -> tuple[Float[Tensor, "*s"], dropout.Cache]:
    """Compute y_r = x_r M_r scale."""
    core.check_axis("parallel_dropout", x, axis)
    sizes = list(x.shape)
    sizes[axis] *= group.size
    mask = core.keys.bernoulli(params.key.near(x), tuple(sizes), 1 - p)
    mask = collectives.take_own_part(mask, group, axis).clone()
    scale = 1 / (1 - p) if p < 1 else 0.0
    return x * mask * scale, dropout.Cache(mask, scale, core.Like.of(x))


@constructor
def parallel_dropout(p: Probability, group: Group, axis: int = -1) -> Layer:
    """Drop elements of a tensor that is divided along an axis, as one process would.

    It is for what `column_parallel` returns. Where all processes have the same tensor, `lf.dropout`
    draws the same mask in all.

    Example:
        >>> layer, x = parallel_dropout(1.0, lf.distributed.alone()), torch.ones(2)
        >>> layer.forward(layer.init(lf.Key(0), x), x)[0]
        tensor([0., 0.])
    """
    return bare(
        Layer, forward, dropout.backward, dropout.init, dropout.predict, advance=dropout.advance
    )
