"""The recorder: torch's operations, noted while a function runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import FrameType, NoneType
from typing import Any, Final, TypeAlias
from weakref import ref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lincoln_fn.core import ASKED
from lincoln_fn.recording.program import Operation, Overload, Program, name_of
from lincoln_fn.recording.surroundings import generator_states

# What an operation is given, or returns: tensors, and what else torch takes.
Argument: TypeAlias = Any
Arguments: TypeAlias = tuple[Argument, ...]
Options: TypeAlias = dict[str, Argument]
# What is written by its repr.
_VALUES: Final = (
    NoneType, bool, int, float, complex, str, torch.dtype, torch.device, torch.layout,
    torch.memory_format,
)  # fmt: skip
# A longer program takes more time to make than it saves.
_MOST: Final = 50_000
# Operations that give a tensor another shape or memory.
_RESHAPE: Final = ("aten::set_", "aten::resize_", "aten::resize_as_", "aten::set_data")
# The file that calls a recorded function, and the folders of the library's code and torch's.
_CALLER: Final = str(Path(__file__).with_name("function.py"))
_OURS, _TORCHS = str(Path(__file__).parents[1]), str(Path(torch.__file__).parent)


@cache
def traits_of(overload: Overload) -> tuple[str, list[tuple[int, str]], bool, bool, bool]:
    """Read the schema of an operation.

    Return its name; the arguments that it writes into, by place and name; whether a result may lie
    in an argument's memory, its shape depends on numbers, and torch's generator may be drawn from.
    """
    schema = overload._schema
    writes = [
        (i, formal.name)
        for i, formal in enumerate(schema.arguments)
        if formal.alias_info is not None and formal.alias_info.is_write
    ]
    # The argument of `_unsafe_view` is not used again.
    shares = schema.name == "aten::_unsafe_view" or any(r.alias_info for r in schema.returns)
    has_free_shapes = torch.Tag.dynamic_output_shape in overload.tags
    may_draw = torch.Tag.nondeterministic_seeded in overload.tags
    return schema.name, writes, shares, has_free_shapes, may_draw


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """A mode that notes each operation while it is on.

    The function may write into the first `donated` inputs. `problem` says why it cannot be
    recorded, and where; None as long as it can. `places` are those of the operations in the code.
    """

    # It belongs to one recording, and ends with it.

    def __init__(
        self, inputs: Sequence[Tensor], donated: int = 0, *, has_places: bool = True
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.problem: str | None = None
        self.places: list[str] = []
        self._has_places = has_places
        self._generators = generator_states()
        self._operations: list[Operation] = []
        self._constants: dict[int, Tensor] = {}
        self._fresh: set[int] = set()
        self._inputs, self._donated, self._has_written = len(inputs), donated, False
        # By a tensor's id, while it lives: the tensor, and its number. No tensor is kept by it.
        self._numbers: dict[int, tuple[Callable[[], Tensor | None], int]] = {}
        # By a tensor's number, that of the first tensor in the same memory.
        self._memory: list[int] = []
        # Likewise, that of the first tensor that is the same view of it.
        self._first_view: list[int] = []
        self._views: dict[tuple[object, ...], int] = {}
        for tensor in inputs:
            before = len(self._memory)
            first = self._number(tensor, [])
            if first < before:  # the same tensor once more, which has a number of its own as well
                self._memory.append(self._memory[first])
                self._first_view.append(first)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler for a mode that nothing compiled meets."""
        return False

    def refuse(self, reason: str) -> None:
        """Say why the function cannot be recorded; the first reason stays."""
        if self.problem is None:
            self.problem = f"{place_here()} {reason}".strip()

    def __torch_dispatch__(
        self,
        func: Overload,
        types: object,
        args: Arguments = (),
        kwargs: Options | None = None,
    ) -> Argument:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self.problem is None:
            self._note(func, args, kwargs, result)
        return result

    def program(self, outputs: Sequence[object]) -> Program:
        """Make the program from the inputs to some outputs."""
        if self._generators != generator_states():
            self.refuse("draws random numbers that are not from a key")
        tensors = [output for output in outputs if isinstance(output, Tensor)]
        if len(tensors) < len(outputs) or any(t.requires_grad for t in tensors):
            self.refuse("returns something else than tensors without autograd's graph")
        return Program(
            self._inputs,
            tuple(self._operations),
            self._constants,
            frozenset(self._fresh),
            outputs=tuple(map(self._number, tensors)),
            memory=tuple(self._memory),
        )

    def _note(self, func: Overload, args: Arguments, kwargs: Options, result: Argument) -> None:
        name, writes, shares, has_free_shapes, may_draw = traits_of(func)
        if name == "aten::lift_fresh":
            self._new_constant(result)
            return
        if name == "aten::promote_types":
            return  # of no tensor's numbers, so it stays what it is
        if name in _RESHAPE:
            self.refuse(f"gives a tensor another shape or memory, by {name}")
        if len(self._operations) == _MOST:
            self.refuse(f"is one of more than {_MOST} operations")
        if may_draw and self._generators != generator_states():
            self.refuse("draws random numbers that are not from a key")
        changed = [args[i : i + 1] or kwargs.get(key) for i, key in writes]
        tensors: list[int] = []
        texts = [self._text(value, tensors) for value in args]
        texts += [f"{key}={self._text(value, tensors)}" for key, value in kwargs.items()]
        call = f"{name_of(func)}({', '.join(texts)})"
        shared = _tensors((args, list(kwargs.values()))) if shares else []
        target, results, ends, nbytes = self._outputs(result, shared, has_free_shapes)
        written = frozenset(map(self._number, _tensors(changed)))
        op = Operation(call, tuple(tensors), target, results, written, ends, func, nbytes)
        if written or self._has_written:
            self._check_writes(op, name)
        self._operations.append(op)
        if self._has_places:
            self.places.append(place_here())

    def _outputs(
        self, result: Argument, shared: Sequence[Tensor], has_free_shapes: bool
    ) -> tuple[str, tuple[int | None, ...], tuple[str, ...], int]:
        """Number what an operation returns: its `target`, `results`, `ends` and `nbytes`."""
        outputs = result if isinstance(result, tuple | list) else [] if result is None else [result]
        if not all(out is None or isinstance(out, Tensor) for out in outputs):
            return "value", (), (self._end_of(result),), 0
        results = tuple(None if out is None else self._number(out, shared) for out in outputs)
        names = ["_" if n is None else f"t{n}" for n in results]
        target = "".join(names if isinstance(result, Tensor) else [f"{name}, " for name in names])
        pairs = zip(names, outputs, strict=True) if has_free_shapes else ()
        ends = tuple(f"{name}.shape != {tuple(out.shape)}" for name, out in pairs)
        return target, results, ends, sum(t.numel() * t.element_size() for t in _tensors(outputs))

    def _check_writes(self, op: Operation, name: str) -> None:
        """Check that an operation writes only into what is donated, or made by the function."""
        for first in {self._memory[number] for number in op.written}:
            is_input, is_donated = first < self._inputs, first < self._donated
            is_lasting = first in self._constants and first not in self._fresh
            if is_lasting or (is_input and not is_donated):
                self.refuse(f"writes into a tensor that it did not make, by {name}")
            self._has_written |= is_donated
        if self._has_written and op.ends:
            self.refuse("reads a number after it has written into the state")

    def _number(self, tensor: Tensor, given: Sequence[Tensor] | None = None) -> int:
        """Return a tensor's number; a new one is an operation's, which was `given` some others."""
        alive, number = self._numbers.get(id(tensor), (None, 0))
        if alive is not None and alive() is tensor:
            return number
        number = len(self._memory)
        if given is None:
            if tensor.requires_grad:
                self.refuse("uses a tensor of autograd that it was not given")
            self._constants[number] = tensor
        shared = (t for t in given or () if _share_memory(t, tensor))
        base = next((self._memory[self._number(t)] for t in shared), number)
        self._numbers[id(tensor)] = ref(tensor), number
        self._memory.append(base)
        self._first_view.append(self._views.setdefault((base, *_view_of(tensor)), number))
        return number

    def _new_constant(self, tensor: Tensor) -> None:
        """Note a tensor that torch has made of Python's numbers."""
        number = self._number(tensor)
        self._fresh.add(number)
        # The function may write into its own.
        self._constants[number] = tensor.clone()

    def _end_of(self, number: Argument) -> str:
        """Write the condition under which a number that Python reads is another one."""
        bounds = ASKED.get()
        if bounds is not None:
            lowest, highest = bounds
            wrong = "not " if lowest <= number <= highest else ""
            return f"{wrong}{lowest!r} <= value <= {highest!r}"
        if not isinstance(number, bool | int | float) or number != number:
            self.refuse(f"reads {number}")
        return f"value != {number!r}"

    def _text(self, value: Argument, tensors: list[int]) -> str:
        """Write an argument, and list its tensors: of several that are the same view, the first."""
        if isinstance(value, Tensor):
            tensors.append(self._first_view[self._number(value)])
            return "{}"
        if isinstance(value, tuple | list):
            entries = "".join(f"{self._text(entry, tensors)}, " for entry in value)
            return f"({entries})" if isinstance(value, tuple) else f"[{entries}]"
        if not isinstance(value, _VALUES):
            self.refuse(f"is given a {type(value).__name__}")
        if isinstance(value, complex):  # whose repr loses the sign of a 0, and has no infinity
            return f"complex({value.real!r}, {value.imag!r})"
        return repr(value).replace("{", "{{").replace("}", "}}")


def place_here() -> str:
    """Say which line of the recorded function runs: the user's, or else the library's."""
    frame: FrameType | None = sys._getframe(1)
    ours = ""
    while frame is not None and frame.f_code.co_filename != _CALLER:
        file = frame.f_code.co_filename
        place = f"{file}:{frame.f_lineno}, in {frame.f_code.co_name},"
        if not file.startswith((_OURS, _TORCHS)):
            return place
        if file.startswith(_OURS) and file != __file__:
            ours = ours or place
        frame = frame.f_back
    return ours


def _tensors(value: Argument) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for entry in value for tensor in _tensors(entry)]
    return []


def _view_of(tensor: Tensor) -> tuple[object, ...]:
    flags = tensor.is_conj(), tensor.is_neg()
    if tensor.layout is not torch.strided:
        return (id(tensor),)
    return (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, *flags)


def _share_memory(a: Tensor, b: Tensor) -> bool:
    try:
        return bool(a.untyped_storage()._cdata == b.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # a layout without such a storage
        return False
