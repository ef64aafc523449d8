"""What each spelling of torch is in a graph: layers of the library, or an error with what to write.

A method that torch's tensors do not have is a constructor of a layer. The functions of this file
come first. They are spellings that need more than a layer of the same name, and take torch's
arguments, with its names and defaults. Inputs are values of a graph, or numbers. Then `TABLE` has
all spellings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from inspect import signature
from numbers import Real
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from lincoln_fn import layers
from lincoln_fn.combine import _torch_layers
from lincoln_fn.combine._torch_layers import converted, einsum, entries, flat, item, moved
from lincoln_fn.core import Layer, LayerError, unexpected
from lincoln_fn.layers.common.constructors import ours

# Any: a value of a graph, a number, or another argument of torch's functions.
Arg: TypeAlias = Any
Row: TypeAlias = Callable[..., Arg]

# Methods that move elements, and take their sizes or axes one by one, or as one tuple.
_OF_SIZES: Final = ("expand", "flip", "permute", "repeat", "reshape", "tile", "view")


def refused(name: str, write: str) -> LayerError:
    """Make the error of a spelling that is no operation of a graph, with what to write."""
    return LayerError("graph", f"{name} is not an operation of a graph; write {write}")


def _is_number(given: Arg) -> bool:
    return isinstance(given, Real)


def add(a: Arg, b: Arg, alpha: float = 1) -> Arg:
    b = b if alpha == 1 else multiply(b, alpha)
    if _is_number(a):
        a, b = b, a
    return a.apply(ours.shift(float(b))) if _is_number(b) else a.apply(ours.add(), b)


def subtract(a: Arg, b: Arg, alpha: float = 1) -> Arg:
    b = b if alpha == 1 else multiply(b, alpha)
    if _is_number(a) or _is_number(b):
        return add(a, -b)
    return a.apply(ours.subtract(), b)


def multiply(a: Arg, b: Arg) -> Arg:
    if _is_number(a):
        a, b = b, a
    return a.apply(ours.scale(float(b))) if _is_number(b) else a.apply(ours.multiply(), b)


def divide(a: Arg, b: Arg) -> Arg:
    if _is_number(b):
        return a.apply(ours.scale(1 / b))
    if _is_number(a):
        return multiply(b.apply(ours.reciprocal()), a)
    return a.apply(ours.divide(), b)


def power(a: Arg, exponent: Arg) -> Arg:
    if _is_number(exponent):
        return a.apply(ours.power(float(exponent)))
    if _is_number(a) and a > 0:  # a^b = e^(b ln a)
        return multiply(exponent, math.log(a)).apply(ours.exp())
    raise refused("a power of two values", "(b * a.log()).exp() where a is above 0")


def maximum(a: Arg, b: Arg) -> Arg:
    a, b = _of_values(a, b)
    return a.apply(ours.maximum(), b)


def compare(name: str, a: Arg, b: Arg) -> Arg:
    """Compare a value with another, or with a number."""
    return a.apply(flat(name, b)) if _is_number(b) else a.apply(flat(name), b)


def where(condition: Arg, a: Arg, b: Arg) -> Arg:
    if _is_number(a) and _is_number(b):
        return condition.apply(flat("where", a, b))
    return condition.apply(ours.where(), *_of_values(a, b))


def _of_values(a: Arg, b: Arg) -> tuple[Arg, Arg]:
    a = b.apply(flat("full_like", a)) if _is_number(a) else a
    return a, a.apply(flat("full_like", b)) if _is_number(b) else b


def extreme(name: str, x: Arg, *args: Arg, **options: Arg) -> Arg:
    """Take the largest or smallest of all; torch has other forms of it, with indices."""
    if args or options:
        forms = f"v.a{name}(dim), v.arg{name}(dim) or v.{name}imum(w)"
        raise refused(f"{name} with arguments", forms)
    return x.amax() if name == "max" else amin(x)


def amin(x: Arg, dim: Arg = None, keepdim: bool = False) -> Arg:
    """Compute min x = -max(-x)."""
    return -(-x).amax(dim, keepdim)


def matmul(a: Arg, b: Arg) -> Arg:
    return a.apply(ours.matmul(), b)


def joined(layer: Layer, values: Arg) -> Arg:
    """Apply a layer to several values, or to one that is a tuple."""
    first, *others = values if isinstance(values, list | tuple) else (values,)
    return first.apply(layer, *others)


def prelu(x: Arg, *args: Arg, **options: Arg) -> Arg:
    if any(not _is_number(each) for each in args):
        raise refused("prelu with a weight", "v.prelu(), which has a weight of its own")
    return x.apply(ours.prelu(*args, **options))


def variance(
    x: Arg, dim: Arg = None, unbiased: bool = True, keepdim: bool = False, *,
    correction: int | None = None,
) -> Arg:  # fmt: skip
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    c = int(unbiased) if correction is None else correction
    return x.apply(ours.variance(dims_of(dim), correction=c, keepdim=keepdim))


def norm(x: Arg, p: Arg = "fro", dim: Arg = None, keepdim: bool = False) -> Arg:
    p = 2.0 if p in ("fro", None) else float(p)
    return x.apply(ours.norm(p, dims_of(dim), keepdim=keepdim))


def dims_of(dim: Arg) -> Arg:
    return tuple(dim) if isinstance(dim, list) else dim


def moving(name: str, x: Arg, *args: Arg, **options: Arg) -> Arg:
    """Move elements, with the arguments of torch's method; sizes may be given one by one."""
    args = tuple(map(dims_of, args))
    if name in _OF_SIZES and args and isinstance(args[0], int):
        args = (args,)
    every = [n for given in (*args, *options.values()) for n in entries(dims_of(given))]
    if not all(isinstance(n, int) for n in every):
        raise unexpected("graph", "sizes as ints", every)
    return x.apply(moved(name, *args, **options))


def reduction(name: str, x: Arg, dim: Arg = None, keepdim: bool = False, dtype: Arg = None) -> Arg:
    return to(x, dtype).apply(getattr(ours, name)(dims_of(dim), keepdim=keepdim))


def along(name: str, x: Arg, dim: Arg = None, dtype: Arg = None) -> Arg:
    """Apply a softmax; torch asks for its axis."""
    if dim is None:
        raise refused(f"{name} without dim", f"{name}(v, dim=-1)")
    return to(x, dtype).apply(getattr(ours, name)(dim))


def to(x: Arg, dtype: Arg) -> Arg:
    if dtype is None:
        return x
    if not isinstance(dtype, torch.dtype):
        raise refused(f"to({dtype!r})", "v.to(dtype); a graph runs where its inputs are")
    return x.apply(converted(dtype))


def parts(name: str, x: Arg, size: Arg, dim: int = 0) -> Arg:
    """Cut x; how long the tuple is, is known of `chunk`, and where each size is given."""
    n = size if name == "chunk" else len(size) if isinstance(size, list | tuple) else 0
    return x.apply(moved(name, dims_of(size), dim)).of_entries(n)


def pad(x: Arg, pad: Arg, mode: str = "constant", value: float | None = None) -> Arg:
    if mode != "constant":
        others = "v.reflection_pad2d(padding), or another of lf.*_pad*"
        raise refused(f"pad with mode={mode!r}", others)
    return x.apply(moved("pad", tuple(pad), mode, value))


def affine(y: Arg, weight: Arg, bias: Arg) -> Arg:
    y = y if weight is None else multiply(y, weight)
    return y if bias is None else add(y, bias)


def layer_norm(
    x: Arg, normalized_shape: Arg, weight: Arg = None, bias: Arg = None, eps: float = 1e-5
) -> Arg:
    """Normalise the trailing axes, and scale and shift by values of the graph."""
    made = ours.layer_norm(tuple(normalized_shape), eps, elementwise_affine=False)
    own = _torch_layers.without_params(made, layers.layer_norm.Params(None, None))
    return affine(x.apply(own), weight, bias)


def rms_norm(x: Arg, normalized_shape: Arg, weight: Arg = None, eps: float | None = None) -> Arg:
    """Divide by the root mean square of the trailing axes, and scale by a value of the graph."""
    made = ours.rms_norm(tuple(normalized_shape), eps, elementwise_affine=False)
    own = _torch_layers.without_params(made, layers.rms_norm.Params(None))
    return affine(x.apply(own), weight, None)


def normalize(x: Arg, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Arg:
    if p != 2:
        raise refused(f"normalize with p={p}", "v / v.norm(p, dim, keepdim=True)")
    return x.apply(ours.normalize(dim, eps))


def attention(
    query: Arg, key: Arg, value: Arg, attn_mask: Arg = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Arg:  # fmt: skip
    if dropout_p or enable_gqa:
        own = "v.apply(layer) of a layer of the library"
        raise refused("attention with dropout or groups", own)
    masks = () if attn_mask is None else (attn_mask,)
    return query.apply(ours.scaled_dot_product_attention(is_causal, scale), key, value, *masks)


def embedding(
    input: Arg, weight: Arg, padding_idx: int | None = None, max_norm: float | None = None,  # noqa: A002  # torch's
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Arg:  # fmt: skip
    """Look rows up in a table that is a value of the graph."""
    if padding_idx is not None or max_norm is not None or scale_grad_by_freq or sparse:
        raise refused("embedding with options", "v.embedding(n, width, padding_idx)")
    return weight.apply(ours.index_select(0), input)


def item_of(x: Arg, index: Arg) -> Arg:
    """Read x[index]; a slice, a number, None, ..., and values with integers may be mixed."""
    inputs = [each for each in entries(index) if hasattr(each, "apply")]
    at = tuple(_torch_layers.INPUT if hasattr(each, "apply") else each for each in entries(index))
    if inputs and len(at) == 1:
        return x.apply(ours.index_select(), inputs[0])
    return x.apply(item(at if type(index) is tuple else at[0]), *inputs)


# Those with the names of torch's functions.
ROWS: Final[tuple[Row, ...]] = (
    add, amin, divide, embedding, layer_norm, matmul, maximum, multiply, norm, normalize, pad,
    power, prelu, rms_norm, subtract, to, variance, where,
)  # fmt: skip


# torch's short names, and ours.
ALIASES: Final = {
    "abs": "absolute", "cat": "concatenate", "clip": "clamp", "concat": "concatenate",
    "div": "divide", "expand": "broadcast_to", "logsigmoid": "log_sigmoid", "max": "amax",
    "mul": "multiply", "pow": "power", "sub": "subtract", "true_divide": "divide",
    "truediv": "divide", "var": "variance",
}  # fmt: skip


def _same(name: str) -> Row:
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
    **{name: partial(compare, name) for name in (
        "bitwise_and", "bitwise_or", "bitwise_xor", "eq", "ge", "gt", "le", "logical_and",
        "logical_or", "logical_xor", "lt", "ne",
    )},
    **{name: partial(compare, f"bitwise_{name}") for name in ("and", "or", "xor")},
    **{name: _flat(name) for name in (
        "argmax", "argmin", "bitwise_not", "ceil", "floor", "full_like", "isfinite", "isinf",
        "isnan", "logical_not", "one_hot", "ones_like", "round", "sign", "trunc", "zeros_like",
    )},
    **{name: partial(moving, name) for name in _torch_layers.BACK},
    **{name: partial(reduction, name) for name in ("amax", "logsumexp", "mean", "sum")},
    **{name: partial(along, name) for name in ("log_softmax", "softmax", "softmin")},
    **{name: partial(parts, name) for name in ("chunk", "split")},
    **{name: partial(to, dtype=getattr(torch, name)) for name in (
        "bfloat16", "bool", "double", "float", "half", "int", "long",
    )},
    **{row.__name__: row for row in ROWS},
    "bmm": matmul,
    "broadcast_to": partial(moving, "expand"),
    "clone": lambda x: x,
    "concatenate": lambda tensors, dim=0: joined(ours.concatenate(dim), tensors),
    "contiguous": lambda x: x,
    "detach": lambda x: x.apply(ours.stop_gradient()),
    "einsum": lambda equation, *inputs: joined(einsum(equation), inputs),
    "gather": lambda x, dim, index: x.apply(ours.gather(dim), index),
    "getitem": item_of,
    "index_select": lambda x, dim, index: x.apply(ours.index_select(dim), index),
    "invert": _flat("bitwise_not"),
    "linear": lambda x, weight, bias=None: affine(x @ weight.t(), None, bias),
    "masked_fill": lambda x, mask, value: where(mask, value, x),
    "max": partial(extreme, "max"),
    "min": partial(extreme, "min"),
    "minimum": lambda a, b: -maximum(-a, -b),
    "mm": matmul,
    "neg": lambda x: multiply(x, -1.0),
    "rsqrt": lambda x: x.apply(ours.sqrt()).apply(ours.reciprocal()),
    "scaled_dot_product_attention": attention,
    "scatter": lambda x, dim, index, src: x.apply(ours.scatter(dim), index, src),
    "scatter_add": lambda x, dim, index, src: x.apply(ours.scatter(dim, reduce="add"), index, src),
    "softplus": lambda x, beta=1.0, threshold=20.0: x.apply(ours.softplus(beta, threshold)),
    "square": lambda x: x.apply(ours.power(2.0)),
    "stack": lambda tensors, dim=0: joined(ours.stack(dim), tensors),
    "std": lambda *args, **options: variance(*args, **options).apply(ours.sqrt()),
    "take": lambda x, index, dim: x.apply(ours.take(index, dim)),
}  # fmt: skip

# Methods that take their arguments in another order than the function.
METHODS: Final[dict[str, Row]] = {
    "where": lambda x, condition, other: where(condition, x, other),
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
