"""Code in numpy: the layer of its functions, and its forward run so that autograd follows it.

The functions of the forward's own modules find torch's copy of numpy under the name `np`, or, on
exact numbers, the one whose arrays hold these. What torch's copy computes counts only if it is what
numpy computed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lincoln_fn.core import Arrays, Cache, Layer, Params, tree, unexpected
from lincoln_fn.testing.exact.arrays import ExactArray, numpy_for
from lincoln_fn.testing.exact.operations import Exact, of_array, to_array


def from_numpy(
    forward: Callable[..., Any],  # Any: a course's functions, of arrays and options
    backward: Callable[..., Any] | None = None,
    /,
    **options: Any,
) -> Layer:
    """Make a layer of functions as courses write them, to be checked and proven as they are.

    `forward(x, w, b, ...)` returns `(out, cache)`, or `(out, another, cache)` of several outputs;
    `backward(dout, cache)` returns the gradients of the arrays in their order. A function such as
    `softmax_loss(x, y)`, or an object that is called so, which returns `(loss, dx)`, has no
    `backward`: it runs again for its gradients, and a line of it may be told. Arrays share memory
    with the tensors, so that the checker sees what is changed in place.

    Args:
        forward: a function of arrays. The first is the layer's x, the others are its params.
        backward: its backward pass; None if `forward` returns the loss and its gradients.
        options: further arguments by name, such as `conv_param={"stride": 1, "pad": 0}` or labels.
            Each call has a copy.

    Returns:
        The layer, of the name of `forward`, whose params are a tuple of the arrays after the first.
        Its functions are pure if yours are.

    Example:
        >>> def affine_forward(x, w, b):
        ...     return x @ w + b, (x, w)
        >>> def affine_backward(dout, cache):
        ...     x, w = cache
        ...     return dout @ w.T, x.T @ dout, dout.mean(0)
        >>> layer = from_numpy(affine_forward, affine_backward)
        >>> x, w = lf.keys.normal(lf.Key(0), (5, 3)), lf.keys.normal(lf.Key(1), (3, 4))
        >>> print(lf.testing.check_layer(layer, (w, torch.ones(4)), x, all=True).mistakes[0])
        affine_forward(): dparams.1 is 5 times too small: averaged where it should be summed?
    """
    for function in (forward, backward):
        if function is not None and not callable(function):
            raise unexpected("from_numpy", "a function", repr(function))
    name = f"{getattr(forward, '__name__', type(forward).__name__)}()"

    def run(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        # Detached, a copy is no use of a parameter.
        given = tree.map(lambda array: array.detach().clone(), (x, *params))
        result = _called(forward, (x, *params), **copy.deepcopy(options))
        if backward is None:
            return returned(result[0]), given
        *outputs, cache = result
        y = tuple(map(returned, outputs))
        return y[0] if len(y) == 1 else y, cache

    def run_back(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        if backward is None:
            # Its lines run here once more, so that one that is wrong can be told.
            _, *gradients = _called(forward, cache, **copy.deepcopy(options))
            found = [gradient * as_array(g) for gradient in gradients]
        else:
            found = _called(backward, g if isinstance(g, tuple) else (g,), cache)
        gradients = found if isinstance(found, tuple | list) else (found,)
        dx, *dparams = map(returned, gradients)
        return dx, tuple(dparams)

    return Layer(name, run, run_back)


# Any: numpy's array.
def as_array(tensor: Tensor) -> Any:
    """Return the array of a tensor's numbers, in the same storage."""
    return to_array(tensor) if isinstance(tensor, Exact) else tensor.detach().numpy()


def _called(function: Any, tensors: Sequence[Tensor], *more: Any, **options: Any) -> Any:
    """Call a function with arrays; those of exact numbers have a numpy of their own."""
    arrays = [as_array(tensor) for tensor in tensors]
    table = next((each.table for each in arrays if isinstance(each, ExactArray)), None)
    with ExitStack() as stack:
        if table is not None:
            numpy = numpy_for(table)
            stack.enter_context(_standing_in(_scopes_with_numpy(function), numpy))
            # The sum of constants is no float, either.
            options = {
                name: numpy.asarray(value) if isinstance(value, np.ndarray) else value
                for name, value in options.items()
            }
        return function(*arrays, *more, **options)


def returned(value: Any) -> Any:  # Any: what is no array of numbers stays as it is
    """Make a tensor of what a function of arrays returned."""
    value = as_tensor(value)
    if value is None or isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        return value
    return torch.from_numpy(np.array(array, dtype=None if array.dtype.kind == "f" else np.float64))


Forward = Callable[[Sequence[Tensor]], Arrays]
# So far is a function sought that a function holds: that of a pair is behind nine others.
DEEPEST = 10
_EMPTY_CELL = CellType()
# They hold nothing.
_WHOLE = (Tensor, np.ndarray, np.ufunc, str, int, float, type, ModuleType)
_OTHERS = ("lincoln_fn", "numpy", "torch", "builtins", "functools")


def outputs(forward: Forward, arrays: Sequence[Tensor]) -> list[Tensor]:
    """Run a forward of arrays that autograd watches, and list its outputs."""
    try:
        y = tree.leaves(forward(arrays))
    except RuntimeError:  # x.numpy() of what autograd watches
        y = tree.leaves(forward([array.detach() for array in arrays]))
    scopes = [] if any(leaf.requires_grad for leaf in y) else _scopes_with_numpy(forward)
    if not scopes:
        return y
    try:
        with _numpy_on_tensors(scopes):
            followed = tree.leaves(forward(arrays))
    except Exception:  # torch's copy of numpy lacks something, in any way
        return y
    pairs = zip(followed, y, strict=False)
    return followed if len(followed) == len(y) and all(_same(*pair) for pair in pairs) else y


def as_tensor(value: object) -> object:
    """Return the tensor of an array, exact or of torch's copy of numpy, and all else as it is."""
    if isinstance(value, ExactArray):
        return of_array(value)
    tensor = getattr(value, "tensor", None)
    return tensor if isinstance(tensor, Tensor) else value


def _same(followed: Tensor, y: Tensor) -> bool:
    is_alike = isinstance(followed, Tensor) and followed.shape == y.shape
    return is_alike and torch.allclose(followed.detach(), y, 1e-9, 1e-12)


# Any: what a function holds.
def _parts(value: Any) -> list[Any]:
    if isinstance(value, _WHOLE):
        return []
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, FunctionType):
        filled = [cell for cell in value.__closure__ or () if cell != _EMPTY_CELL]
        return [*(cell.cell_contents for cell in filled), *(value.__defaults__ or ())]
    kind = type(value)
    if attrs.has(kind):
        return [getattr(value, field.name, None) for field in attrs.fields(kind)]
    if isinstance(kind.__call__, FunctionType):  # of an object that is called
        return [kind.__call__, *getattr(value, "__dict__", {}).values()]
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, dict):  # the names of a module have Python's own among them
        return [part for name, part in value.items() if name != "__builtins__"]
    return []


def held_by(value: Any) -> list[Any]:
    """List what a function holds: its closure, defaults and arguments, and what those hold."""
    found, last = {id(value): value}, [value]
    for _ in range(DEEPEST):
        parts = {id(part): part for each in last for part in _parts(each)}
        last = [part for key, part in parts.items() if key not in found]
        found |= parts
    return [*found.values()]


def _scopes_with_numpy(forward: Any) -> list[dict[str, Any]]:
    """List the modules of a function, and of those that it calls, that name numpy."""
    found: dict[int, dict[str, Any]] = {}

    def add(scope: dict[str, Any]) -> None:
        if id(scope) in found or str(scope.get("__name__")).partition(".")[0] in _OTHERS:
            return
        found[id(scope)] = scope
        for value in list(scope.values()):
            if isinstance(value, FunctionType):
                add(value.__globals__)

    for value in held_by(forward):
        if isinstance(value, FunctionType):
            add(value.__globals__)
    return [scope for scope in found.values() if any(value is np for value in scope.values())]


@contextmanager
def _standing_in(scopes: list[dict[str, Any]], stand_in: SimpleNamespace) -> Iterator[None]:
    """Let the names of numpy in modules stand for something else."""
    with ExitStack() as stack:
        for scope in scopes:
            changed = {name: stand_in for name, value in scope.items() if value is np}
            stack.enter_context(patch.dict(scope, changed))
        yield


@contextmanager
def _numpy_on_tensors(scopes: list[dict[str, Any]]) -> Iterator[None]:
    from torch import _numpy as on_tensors  # it takes as long to import as numpy
    from torch._numpy import _dtypes_impl as dtypes

    array = vars(on_tensors)["ndarray"]
    usual = dtypes.DefaultDTypes(torch.float64, torch.complex128, torch.int64)
    with ExitStack() as stack:
        stack.enter_context(_standing_in(scopes, _numpy_of(on_tensors)))
        # Numpy's own arrays leave a product with a tensor to the tensor.
        stack.enter_context(patch.object(array, "__array_ufunc__", None, create=True))
        # To look up the dtype of np.zeros(3), torch imports its compiler.
        stack.enter_context(patch.object(dtypes, "_default_dtypes", usual))
        # What is saved for the gradient may be changed in place later.
        saved = torch.autograd.graph.saved_tensors_hooks
        stack.enter_context(saved(lambda t: t.detach().clone(), lambda t: t))
        stack.enter_context(_Passing(array))
        yield


def _numpy_of(on_tensors: ModuleType) -> SimpleNamespace:
    """Make torch's copy of numpy, with numpy itself for what that lacks."""
    kind = on_tensors.ndarray

    def array(values: Any, *args: Any, **options: Any) -> Any:
        # Any: as numpy has it. An array of a list of arrays keeps its gradient.
        if isinstance(values, list | tuple) and any(isinstance(v, kind) for v in values):
            return on_tensors.stack([array(v) for v in values])
        return on_tensors.array(values, *args, **options)

    own = {name: value for name, value in vars(on_tensors).items() if name != "random"}
    return SimpleNamespace(**{**vars(np), **own, "array": array, "asarray": array})


class _Passing(TorchFunctionMode):
    """Passes tensors on to torch's copy of numpy, and back, and refuses to leave both."""

    def __init__(self, array: type) -> None:
        super().__init__()
        self._array = array
        # What was detached on the way to numpy, with what it was.
        self._detached: dict[int, tuple[Tensor, Tensor]] = {}

    # Any: of every function of torch.
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.numpy:  # x.detach().numpy()
            return self._array(self._detached.get(id(args[0]), args)[-1])
        if func in (torch.as_tensor, torch.tensor, torch.asarray):
            args = (as_tensor(args[0]), *args[1:])
            if isinstance(args[0], Tensor):
                return args[0]
        name = getattr(func, "__name__", "")
        if name in ("item", "tolist", "__array__", "__float__") and args[0].requires_grad:
            raise TypeError("a number of Python has no gradient")
        result = func(*args, **(kwargs or {}))
        if func is Tensor.detach:
            self._detached[id(result)] = result, args[0]
        return result
