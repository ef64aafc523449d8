"""What each spelling of torch is in a graph: layers of the library, or an error with what to write.

A method that torch's tensors do not have is a constructor of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from inspect import signature
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from lincoln_fn.combine import _torch_rows as rows
from lincoln_fn.combine._moved import BACK, moved
from lincoln_fn.combine._torch_layers import einsum, flat
from lincoln_fn.combine._torch_rows import Arg, Row, refused
from lincoln_fn.core import Layer, LayerError, unexpected
from lincoln_fn.layers.common.constructors import ours

# torch's short names, and ours.
ALIASES: Final = {
    "abs": "absolute", "cat": "concatenate", "clip": "clamp", "concat": "concatenate",
    "div": "divide", "expand": "broadcast_to", "logsigmoid": "log_sigmoid", "max": "amax",
    "mul": "multiply", "pow": "power", "sub": "subtract", "true_divide": "divide",
    "truediv": "divide", "var": "variance",
}  # fmt: skip


def _same(name: str) -> Row:
    """Make the row of a layer that has torch's arguments."""
    return lambda x, *args, **options: x.apply(getattr(ours, name)(*args, **options))


def _flat(name: str) -> Row:
    return lambda x, *args, **options: x.apply(flat(name, *args, **options))


TABLE: Final[dict[str, Row]] = {
    **{name: _same(name) for name in (
        "absolute", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
        "avg_pool1d", "avg_pool2d", "avg_pool3d", "celu", "clamp", "cos", "elu", "exp", "gelu",
        "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log",
        "log_sigmoid", "max_pool1d", "max_pool2d", "max_pool3d", "mish", "pixel_shuffle",
        "pixel_unshuffle", "reciprocal", "relu", "relu6", "selu", "sigmoid", "silu", "sin",
        "softshrink", "softsign", "sqrt", "tanh", "tanhshrink", "threshold",
    )},
    **{name: partial(rows.compare, name) for name in (
        "bitwise_and", "bitwise_or", "bitwise_xor", "eq", "ge", "gt", "le", "logical_and",
        "logical_or", "logical_xor", "lt", "ne",
    )},
    **{name: partial(rows.compare, f"bitwise_{name}") for name in ("and", "or", "xor")},
    **{name: _flat(name) for name in (
        "argmax", "argmin", "bitwise_not", "ceil", "floor", "full_like", "isfinite", "isinf",
        "isnan", "logical_not", "one_hot", "ones_like", "round", "sign", "trunc", "zeros_like",
    )},
    **{name: partial(rows.moving, name) for name in BACK},
    **{name: partial(rows.reduction, name) for name in ("amax", "logsumexp", "mean", "sum")},
    **{name: partial(rows.along, name) for name in ("log_softmax", "softmax", "softmin")},
    **{name: partial(rows.parts, name) for name in ("chunk", "split")},
    **{name: partial(rows.to, dtype=getattr(torch, name)) for name in (
        "bfloat16", "bool", "double", "float", "half", "int", "long",
    )},
    **{row.__name__: row for row in rows.ROWS},
    "bmm": rows.matmul,
    "broadcast_to": partial(rows.moving, "expand"),
    "clone": lambda x: x,
    "concatenate": lambda tensors, dim=0: rows.joined(ours.concatenate(dim), tensors),
    "contiguous": lambda x: x,
    "detach": lambda x: x.apply(ours.stop_gradient()),
    "einsum": lambda equation, *inputs: rows.joined(einsum(equation), inputs),
    "gather": lambda x, dim, index: x.apply(ours.gather(dim), index),
    "getitem": rows.item_of,
    "index_select": lambda x, dim, index: x.apply(ours.index_select(dim), index),
    "invert": _flat("bitwise_not"),
    "linear": lambda x, weight, bias=None: rows.affine(x @ weight.t(), None, bias),
    "masked_fill": lambda x, mask, value: rows.where(mask, value, x),
    "max": partial(rows.extreme, "max"),
    "min": partial(rows.extreme, "min"),
    "minimum": lambda a, b: -rows.maximum(-a, -b),
    "mm": rows.matmul,
    "neg": lambda x: rows.multiply(x, -1.0),
    "rsqrt": lambda x: x.apply(ours.sqrt()).apply(ours.reciprocal()),
    "scaled_dot_product_attention": rows.attention,
    "scatter": lambda x, dim, index, src: x.apply(ours.scatter(dim), index, src),
    "scatter_add": lambda x, dim, index, src: x.apply(ours.scatter(dim, reduce="add"), index, src),
    "softplus": lambda x, beta=1.0, threshold=20.0: x.apply(ours.softplus(beta, threshold)),
    "square": lambda x: x.apply(ours.power(2.0)),
    "stack": lambda tensors, dim=0: rows.joined(ours.stack(dim), tensors),
    "std": lambda *args, **options: rows.variance(*args, **options).apply(ours.sqrt()),
    "take": lambda x, index, dim: x.apply(ours.take(index, dim)),
}  # fmt: skip

# Methods that take their arguments in another order than the function.
METHODS: Final[dict[str, Row]] = {
    "where": lambda x, condition, other: rows.where(condition, x, other),
}
# Names of tensors that are no methods.
ATTRIBUTES: Final[dict[str, Row]] = {
    "T": lambda x: x.apply(moved("t")),
    "mT": lambda x: x.apply(moved("transpose", -2, -1)),
}
_SIZES: Final = "sizes as numbers, and flatten(1) or unflatten(dim, sizes) to keep the other axes"
_NUMBERS: Final = "lf.inspect.outputs, which returns the values of a run"
_GRADIENTS: Final = "lf.gradients_by_name, which returns the gradient of each value"
REFUSED: Final = {
    **dict.fromkeys(("dim", "ndim", "numel", "shape", "size"), _SIZES),
    **dict.fromkeys(("data", "item", "numpy", "tolist"), _NUMBERS),
    **dict.fromkeys(("backward", "grad", "requires_grad", "retain_grad"), _GRADIENTS),
    "setitem": "torch.where(condition, a, b), or v.scatter(dim, index, src)",
    "floordiv": "a division with floor()",
    "interpolate": "v.upsample(size, scale_factor, mode)",
    "mod": "the index or the number as an argument",
}


# Options that torch's functions pass on where a call says nothing.
_UNSAID: Final = ("dtype", "inplace", "out", "sparse_grad")


def function(name: str) -> Row:
    """Find what a function of torch means."""
    row = TABLE.get(name) or TABLE.get(ALIASES.get(name, name))
    if row is None:
        raise _missing(name)
    return row


def method(name: str) -> Row | None:
    """Find what a method of torch's tensors means; None if they have no such method."""
    return (METHODS.get(name) or function(name)) if hasattr(Tensor, name) else None


def constructor(name: str) -> Callable[..., Layer]:
    """Find the constructor of a layer by its name, or by torch's."""
    own = ALIASES.get(name, name)
    if own not in dir(ours):
        raise _missing(name)
    make: Callable[..., Layer] = getattr(ours, own)
    return make


def bound(name: str, row: Row, args: Sequence[Arg], options: dict[str, Arg]) -> partial[Arg]:
    """Bind arguments to a row; the error says which it takes."""
    if options.get("inplace"):
        raise refused(f"{name} with inplace=True", f"{name} without it")
    options.pop("_stacklevel", None)
    said = {key: given for key, given in options.items() if key not in _UNSAID or given}
    try:
        signature(row).bind(*args, **said)
    except TypeError as error:
        raise LayerError(f"graph: {name}", f"expected {name}{signature(row)}: {error}") from None
    return partial(row, *args, **said)


def _missing(name: str) -> LayerError:
    """Make the error of a name that is no operation, with what to write."""
    if name in REFUSED:
        return refused(name, REFUSED[name])
    if name.endswith("_"):
        return refused(name, f"{name.rstrip('_')}, which changes nothing in place")
    if name in dir(ours):
        return refused(f"torch's {name}", f"v.{name}(...), which is lf.{name}(...)")
    if name.endswith(("_loss", "_entropy", "_logits")) or name == "kl_div":
        return refused(name, "it beside the graph; the losses are in lf.losses")
    if any(hasattr(home, name) for home in (Tensor, torch, functional)):
        return refused(name, "v.apply(lf.interop.from_function(lambda x: ...)), by autograd")
    close = get_close_matches(name, [*dir(ours), *TABLE, *ALIASES], 1)
    mend = f"did you mean {close[0]}?" if close else "v.apply(layer) takes a layer of your own"
    return unexpected("graph", "an operation that is a layer", repr(name), mend)
