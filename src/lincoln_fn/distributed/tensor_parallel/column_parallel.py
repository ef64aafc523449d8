"""Column-parallel dense layer: process r computes y_r = x W_r + b_r, its part of y's features.

The columns of W are divided among the processes, and so is b:

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

Cache: x.
"""

from __future__ import annotations

from functools import partial

from lincoln_fn.core import Arrays, Key, Layer, PositiveInt, Spec, bare, constructor, tree
from lincoln_fn.distributed.group import Group, check_divisible
from lincoln_fn.distributed.tensor_parallel import collectives
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layers import dense


def divide_columns(part: Layer, group: Group, *, gather_output: bool, name: str) -> Layer:
    """Make the layer whose y is divided among the processes, each with one such part."""
    arguments = {"part": part, "group": group, "gather_output": gather_output, "name": name}
    after = collectives.JOINED if gather_output else collectives.SAME
    call = Spec(divide_columns, arguments, name)
    return collectives.between("column_parallel", collectives.COPIED, part, after, group, call)


def copy_own_columns(whole: dense.Params, group: Group) -> dense.Params:
    """Copy the own columns of W and the own part of b, so that the whole can be freed."""
    return tree.map(lambda leaf: collectives.take_own_part(leaf, group).clone(), whole)


def _init_own(key: Key, x: Arrays, *, whole: Layer, group: Group) -> dense.Params:
    return copy_own_columns(whole.init(key, x), group)


_FAN_IN_INIT = fan_in_uniform()


@constructor
def column_parallel(
    n_out: PositiveInt,
    group: Group,
    *,
    bias: bool = True,
    gather_output: bool = False,
    weight_init: Initializer = _FAN_IN_INIT,
    bias_init: Initializer = _FAN_IN_INIT,
) -> Layer:
    """Divide the outputs of a dense layer among processes: y_r = x W_r + b_r.

    All processes have the same x, of shape (..., n_in). The y of each has shape (..., n_out / n),
    for n processes. `row_parallel` takes it as it is. Forward sends nothing, and backward adds up
    dx, so all processes must call it.

    Args:
        n_out: the number of features of the whole y, a multiple of the number of processes.
        gather_output: whether all processes get the whole y, of shape (..., n_out).
        weight_init: draws the whole W, of which each process keeps its own columns.

    Returns:
        A layer with `layers.dense.Params`: weight (n_in, n_out / n) and bias (n_out / n,). The
        parts of all processes together are what `lf.dense` draws from the same key.

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
    part = part.replace(init=partial(_init_own, whole=whole, group=group))
    return bare(lambda call: divide_columns(part, group, gather_output=gather_output, name=call))
