"""Tensors of exact numbers, and torch's operations on them.

A tensor's float64 elements are the numbers of rows in a table of its space. Torch's own operations
move elements, as in a view, a gather or a copy into a slice. Row 0 is the number 0, so padding and
zeros are right, too. What computes reads the rows, and adds new ones.

A handler takes the space, the operation and its arguments. Operations that move elements run on the
rows; those that choose or compare ask the shadows; the others compute by a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeGuard

import numpy as np
import optree
import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

from lincoln_fn.core import ASKED
from lincoln_fn.testing.exact import rules
from lincoln_fn.testing.exact.arrays import ExactArray
from lincoln_fn.testing.exact.field import READ, Array, Field, MissingError
from lincoln_fn.testing.exact.numbers import Numbers, Table, constant

# Any: of every operation of torch.
Operation = Any


class Exact(Tensor):
    """A tensor of exact numbers; it has values only in its space."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return what operations return, and make no subclass of it."""
        return Tensor.__torch_function__(func, (), args, kwargs)  # type: ignore[no-untyped-call]  # torch

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's is no method
        cls, func: Operation, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise MissingError(f"{func} of exact numbers, outside of their space")


def exact(rows: Tensor) -> Exact:
    """Make a tensor of rows one of exact numbers."""
    made: Exact = torch.Tensor._make_subclass(Exact, rows)
    return made


def to_array(tensor: Exact) -> ExactArray:
    """Make the array of a tensor's numbers, in the same storage."""
    space = _get_current_dispatch_mode()
    if not isinstance(space, Space):
        raise MissingError("exact numbers as an array, outside of their space")
    with no_dispatch():
        return ExactArray(space, plain(tensor).numpy())


def of_array(array: ExactArray) -> Exact:
    """Make the tensor of an array's numbers."""
    with no_dispatch():
        return exact(torch.from_numpy(array.rows.copy()))


def plain(tensor: Tensor) -> Tensor:
    """Return the tensor of rows of exact numbers, in the same storage."""
    made: Tensor = torch.ops.aten.detach.default(tensor)
    return made


STOPPED: Final = "what is detached is a constant"


def _name(func: Operation) -> str:
    name: str = func.overloadpacket.__name__
    return name.rstrip("_")


def _is_plain(made: object) -> TypeGuard[Tensor]:
    return type(made) is Tensor and made.is_floating_point() and made.device.type == "cpu"


def _wrapped(made: Any) -> Any:  # Any: what torch returns
    return optree.tree_map(lambda each: exact(each) if _is_plain(each) else each, made)


def _computed(space: Space, func: Operation, args: Any, kwargs: Any) -> Any:
    def given(each: Any) -> Any:  # Any: an argument
        return space.numbers(each) if isinstance(each, Tensor) else each

    rule = rules.RULES.get(_name(func)) or rules.QUESTIONS[_name(func)]
    made = rule(*map(given, args), **{k: given(v) for k, v in kwargs.items()})
    return _written(func, args[0], _stored(space, made))


def _stored(space: Space, made: Any) -> Any:  # Any: numbers, arrays, or several of them
    if isinstance(made, tuple):
        return tuple(_stored(space, each) for each in made)
    return space.tensor(made) if isinstance(made, Numbers) else torch.as_tensor(made)


def _written(func: Operation, target: Tensor, result: Any) -> Any:
    """Write a result in place where the operation does."""
    if not func._schema.is_mutable:
        return result
    if not isinstance(target, Exact):
        raise MissingError(f"{func} writes exact numbers into a tensor that was made before")
    plain(target).copy_(plain(result))
    return target


def _rows_of(space: Space, given: Any, is_filled: bool) -> Any:
    """Return the rows of an argument: a tensor, several, or a number that is filled in."""
    if isinstance(given, tuple | list):
        return type(given)(_rows_of(space, each, is_filled) for each in given)
    if isinstance(given, Exact):
        return plain(given)
    if not is_filled or given is None:
        return given
    numbers = space.numbers(given) if isinstance(given, Tensor) else constant(space.field, given)
    rows = space.write(numbers)
    return torch.from_numpy(rows) if isinstance(given, Tensor) else rows.item()


def _moved(space: Space, func: Operation, args: Any, kwargs: Any) -> Any:
    arguments = func._schema.arguments
    given = {a.name: each for a, each in zip(arguments, args, strict=False)} | kwargs
    dtype = given.get("dtype")
    if dtype is not None and not dtype.is_floating_point:
        return func(*map(plain, args[:1]), *args[1:], **kwargs)
    if dtype is not None:
        given["dtype"] = torch.float64
    if func._schema.is_mutable and not isinstance(args[0], Exact):
        raise MissingError(f"{func} writes exact numbers into a tensor that was made before")
    rows = {key: _rows_of(space, each, key in _FILLED) for key, each in given.items()}
    if func._schema.is_mutable:  # a shape may change in place, too
        func(args[0], **{key: each for key, each in rows.items() if key != "self"})
        return args[0]
    made = func(**rows)
    if "empty" in _name(func):
        made.zero_()
    return _wrapped(made)


def _argument(func: Operation, args: Any, kwargs: Any, name: str) -> Any:
    for i, argument in enumerate(func._schema.arguments):
        if argument.name == name:
            return args[i] if i < len(args) else kwargs.get(name, argument.default_value)
    return None


def _chosen(space: Space, func: Operation, args: Any, kwargs: Any) -> Any:
    """Choose numbers by their shadows, as max, sort and topk do."""
    dim, name = _argument(func, args, kwargs, "dim"), _name(func)
    if name in ("max", "min") and dim is None:
        return space.tensor(rules.RULES[f"a{name}"](space.numbers(args[0])))
    numbers = space.numbers(args[0])
    made = func(torch.from_numpy(np.array(numbers.shadow)), *args[1:], **kwargs)
    rows = plain(args[0])
    if "pool" in name:
        indices, spatial = made[1], 3 if "3d" in name else 2
        flat = rows.flatten(-spatial).gather(-1, indices.flatten(-spatial))
        return exact(flat.view(indices.shape)), indices
    rules.in_order(numbers, dim if rows.ndim else None)
    if isinstance(made, Tensor):
        return made
    indices = made[1]
    kept = indices if indices.ndim == rows.ndim else indices.unsqueeze(dim)
    return exact(rows.gather(dim, kept).view(indices.shape)), indices


def _added(space: Space, func: Operation, args: Any, kwargs: Any) -> Any:
    if "put" in _name(func) and not _argument(func, args, kwargs, "accumulate"):
        return _moved(space, func, args, kwargs)
    if kwargs.get("alpha", 1) != 1:
        raise MissingError(f"{func} with alpha has no rule for exact numbers")

    def added(i: int) -> Array:
        def column(each: Any) -> Any:  # Any: an argument
            if not isinstance(each, Tensor) or not each.is_floating_point():
                return each
            return torch.from_numpy(np.array(space.numbers(each).columns[i]))

        return func(*map(column, args), **{k: column(v) for k, v in kwargs.items()}).numpy()

    shadow, value, tangent = map(added, range(3))
    reduce = space.field.reduce
    made = space.tensor(Numbers(space.field, shadow, reduce(value), reduce(tangent)))
    return _written(func, args[0], made)


def _largest_at(space: Space, func: Operation, args: Any, kwargs: Any) -> Any:
    """Choose the largest, or smallest, of those that are scattered to a place, by their ranks."""
    x, dim, index, src, reduce = args
    if reduce not in ("amax", "amin"):
        raise MissingError(f"{func} of {reduce} has no rule for exact numbers")
    rows = torch.cat([plain(x).flatten(), plain(src).flatten()])
    order = torch.from_numpy(np.argsort(space.read(rows.numpy()).shadow))
    ranks = torch.split(torch.argsort(order), [x.numel(), src.numel()])
    of_x, of_src = (each.view(like.shape) for each, like in zip(ranks, (x, src), strict=True))
    return exact(rows[order][func(of_x, dim, index, of_src, reduce)])


def _converted(space: Space, func: Operation, args: Any, kwargs: Any) -> Any:
    """Convert to another type: integers and bools are read, and floating ones stay exact."""
    dtype = kwargs.get("dtype")
    if dtype is None or dtype.is_floating_point:
        return _wrapped(func(plain(args[0]), *args[1:], **{**kwargs, "dtype": None}))
    return _read(space, args[0]).to(dtype)


def _read(space: Space, x: Tensor) -> Tensor:
    numbers = space.numbers(x)
    # A check that a number lies between others is no use of it.
    if (numbers.tangent != 0).any() and ASKED.get() is None:
        space.field.notes.add(READ)
    return torch.from_numpy(np.array(numbers.shadow))


def _detached(space: Space, func: Operation, args: Any, kwargs: Any) -> Any:
    """Detach, which stops a derivative if the field is told so."""
    moves = bool((space.numbers(args[0]).tangent != 0).any())
    if moves:
        space.field.notes.add(STOPPED)
    if not (moves and space.field.stops):
        return _moved(space, func, args, kwargs)
    return space.moved(args[0], np.zeros(args[0].shape, space.field.dtype))


def _convolution(space: Space, func: Operation, args: Any, kwargs: Any) -> Any:
    """Convolve, by torch's own convolution of floats."""
    x, weight, bias, *how = args

    def of(a: Array, b: Array) -> Array:
        return func(torch.from_numpy(a), torch.from_numpy(b), None, *how).numpy()

    y = rules.bilinear(of, space.numbers(x), space.numbers(weight))
    if bias is not None:
        each_channel = -1, *[1] * (weight.ndim - 2)
        y = y + space.numbers(bias).map(lambda each: each.reshape(each_channel))
    return space.tensor(y)


def _convolution_back(space: Space, func: Operation, args: Any, kwargs: Any) -> Any:
    """Compute the gradients of x, the weight and the bias, as torch's engine does."""
    g, x, weight, _, *how, wanted = args
    like = [torch.zeros(each.shape, dtype=torch.float64) for each in (x, weight)]

    def half(i: int, g: Array, other: Array) -> Array:
        pair = [torch.from_numpy(other) if n != i else like[n] for n in range(2)]
        mask = [n == i for n in range(3)]
        return func(torch.from_numpy(g), *pair, None, *how, mask)[i].numpy()

    of_g = space.numbers(g)
    others = space.numbers(weight), space.numbers(x)
    dx, dw = (rules.bilinear(partial(half, i), of_g, other) for i, other in enumerate(others))
    made = dx, dw, of_g.sum((0, *range(2, g.ndim)))
    pairs = zip(made, wanted, strict=True)
    return tuple(space.tensor(each) if is_wanted else None for each, is_wanted in pairs)


# The arguments whose elements are numbers, and no places.
_FILLED: Final = (
    "self", "other", "src", "source", "value", "values", "fill_value", "tensors", "weight", "input",
)  # fmt: skip
_MOVES: Final = """
    view _unsafe_view reshape clone permute transpose t expand squeeze unsqueeze select slice split
    split_with_sizes unbind cat stack index index_select gather flip roll repeat constant_pad_nd
    reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
    replication_pad3d pixel_shuffle pixel_unshuffle unfold as_strided diagonal diag_embed tril triu
    alias copy masked_fill fill zero new_zeros new_empty new_ones new_full zeros_like
    empty_like ones_like full_like where slice_scatter select_scatter scatter select_backward
    slice_backward lift_fresh im2col embedding masked_select take index_fill empty_strided
    new_empty_strided _reshape_alias masked_scatter rot90
"""
_CHOICES: Final = (
    "max min sort topk kthvalue argmax argmin argsort cummax cummin max_pool2d_with_indices "
    "max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d"
)
_HANDLERS: Final[dict[str, Callable[..., Any]]] = {  # Any: as torch's operations
    **dict.fromkeys(_MOVES.split(), _moved),
    **dict.fromkeys(_CHOICES.split(), _chosen),
    **dict.fromkeys(("index_add", "scatter_add", "index_put", "_index_put_impl"), _added),
    "_to_copy": _converted,
    "_local_scalar_dense": lambda space, _, args, __: _read(space, *args).item(),
    "equal": lambda space, _, args, __: torch.equal(*(_read(space, each) for each in args)),
    "_has_same_storage_numel": lambda _, func, args, __: func(*map(plain, args)),
    "detach": _detached, "scatter_reduce": _largest_at,
    "convolution": _convolution, "convolution_backward": _convolution_back,
}  # fmt: skip

# What is rounded in floating point: it computes, and does not only choose or negate.
_SUMS: Final = "convolution convolution_backward index_add scatter_add"
_PRECISE: Final = """
    neg abs sign sgn relu clamp clamp_min clamp_max maximum minimum floor ceil round trunc remainder
    amax amin aminmax
"""
ROUNDED: Final = (rules.RULES.keys() | {*_SUMS.split()}) - {*_PRECISE.split()}


class PlainMode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """A mode that nothing compiled meets, so that torch need not import its compiler."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return whether the compiler may leave it out."""
        return False


class Space(Table, PlainMode):
    """Where exact numbers live: while it is active, floating tensors that are made are exact."""

    def __init__(self, field: Field) -> None:
        PlainMode.__init__(self)  # type: ignore[no-untyped-call]  # torch's
        Table.__init__(self, field)
        self.branches = False  # whether a comparison decides what is computed

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        given: Any = (args, kwargs)
        if not any(isinstance(each, Exact) for each in optree.tree_leaves(given)):
            if name == "_local_scalar_dense" and args[0].dtype is torch.bool:
                self.branches = True
            with no_dispatch():
                made = func(*args, **kwargs)
                return optree.tree_map(self.lifted, made.zero_() if "empty" in name else made)
        name = name.rstrip("_")
        is_computed = name in rules.RULES or name in rules.QUESTIONS
        run = _HANDLERS.get(name) or (_computed if is_computed else None)
        if run is None:
            with self:
                made = func.decompose(*args, **kwargs)
                if made is NotImplemented:
                    # Its import takes as long as torch's own.
                    from torch._decomp import decomposition_table

                    made = decomposition_table.get(func, func.decompose)(*args, **kwargs)
            if made is not NotImplemented:
                return made
            raise MissingError(f"{func} has no rule for exact numbers")
        with no_dispatch(), np.errstate(all="ignore"):
            return run(self, func, args, kwargs)

    def numbers(self, tensor: Tensor) -> Numbers:
        """Read the numbers of a tensor."""
        with no_dispatch():
            array = plain(tensor).double().numpy(force=True)  # of torch's zeros without memory, too
        return self.read(array) if isinstance(tensor, Exact) else constant(self.field, array)

    def tensor(self, numbers: Numbers) -> Exact:
        """Make a tensor of numbers."""
        with no_dispatch():
            return exact(torch.from_numpy(self.write(numbers)))

    def enter(self, leaf: Tensor, value: Array) -> Exact:
        """Make a tensor of numbers with the shadows of a leaf."""
        shadow = leaf.detach().double().numpy()
        return self.tensor(Numbers(self.field, shadow, value, np.zeros_like(value)))

    def moved(self, leaf: Tensor, tangent: Array) -> Exact:
        """Make a tensor of the same numbers, with tangents."""
        numbers = self.numbers(leaf)
        numbers.tangent = tangent
        return self.tensor(numbers)

    def lifted(self, made: object) -> object:
        """Make a plain floating tensor exact; all else stays."""
        return self.tensor(self.numbers(made)) if _is_plain(made) else made
