"""The recorder: torch's operations, noted while a function runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias
from weakref import ref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lincoln_fn.core import ASKED
from lincoln_fn.recording.program import Argument, At, Operation, Overload, Program, Read, traits_of
from lincoln_fn.recording.surroundings import generator_states

# What torch gives a mode.
Arguments: TypeAlias = tuple[Argument, ...]
Options: TypeAlias = dict[str, Argument]
# A longer program takes more time to make than it saves.
_MOST: Final = 50_000
# Operations that give a tensor another shape or memory.
_RESHAPE: Final = ("aten::set_", "aten::resize_", "aten::resize_as_", "aten::set_data")
# The file that calls a recorded function, and the folders of the library's code and torch's.
_CALLER: Final = str(Path(__file__).with_name("function.py"))
_OURS, _TORCHS = str(Path(__file__).parents[1]), str(Path(torch.__file__).parent)


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
        """Run an operation, and note it."""
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
        traits = traits_of(func)
        name = traits.name
        if name == "aten::lift_fresh":
            self._new_constant(result)
            return
        if name in _RESHAPE:
            self.refuse(f"gives a tensor another shape or memory, by {name}")
        if len(self._operations) == _MOST:
            self.refuse(f"is one of more than {_MOST} operations")
        if traits.may_draw and self._generators != generator_states():
            self.refuse("draws random numbers that are not from a key")
        arguments = self._named(args)
        keywords = tuple((key, self._named(value)) for key, value in kwargs.items())
        outputs = [] if result is None else _entries(result)
        read = None
        if not all(out is None or isinstance(out, Tensor) for out in outputs):
            outputs, read = [], self._read(result)
        tensors = _tensors(outputs)
        given = _tensors((args, list(kwargs.values()))) if traits.shares else []
        op = Operation(
            func,
            arguments,
            keywords,
            tuple(None if out is None else self._number(out, given) for out in outputs),
            read,
            tuple(t.shape for t in tensors) if traits.has_free_shapes else (),
            sum(t.numel() * t.element_size() for t in tensors),
        )
        if traits.is_mutable or self._has_written:
            self._check_writes(op)
        self._operations.append(op)
        if self._has_places:
            self.places.append(place_here())

    def _check_writes(self, op: Operation) -> None:
        """Check that an operation writes only into what is donated, or made by the function."""
        for first in {self._memory[number] for number in op.written()}:
            is_input, is_donated = first < self._inputs, first < self._donated
            is_lasting = first in self._constants and first not in self._fresh
            if is_lasting or (is_input and not is_donated):
                self.refuse(f"writes into a tensor that it did not make, by {op.name}")
            self._has_written |= is_donated
        if self._has_written and (op.read is not None or op.shapes):
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

    def _read(self, number: Argument) -> Read:
        """Note a number that Python reads."""
        bounds = ASKED.get()
        if bounds is not None:
            return Read(bounds[0] <= number <= bounds[1], bounds)
        if not isinstance(number, bool | int | float) or number != number:
            self.refuse(f"reads {number}")
        return Read(number)

    def _named(self, value: Argument) -> Argument:
        """Put numbers in the place of tensors: of several that are the same view, the first."""
        if isinstance(value, Tensor):
            return At(self._first_view[self._number(value)])
        if isinstance(value, tuple | list):
            return type(value)([self._named(entry) for entry in value])
        if isinstance(value, torch.Generator):
            self.refuse("draws from a generator, and not from a key")
        return value


def place_here() -> str:
    """Say which line of the recorded function runs: the user's, or else the library's."""
    frame, ours = sys._getframe(1), ""
    while frame is not None and frame.f_code.co_filename != _CALLER:
        file = frame.f_code.co_filename
        place = f"{file}:{frame.f_lineno}, in {frame.f_code.co_name},"
        if not file.startswith((_OURS, _TORCHS)):
            return place
        if file.startswith(_OURS) and file != __file__:
            ours = ours or place
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return ours


def _entries(result: Argument) -> Sequence[Argument]:
    return result if isinstance(result, tuple | list) else [result]


def _tensors(value: Argument) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for entry in value for tensor in _tensors(entry)]
    return []


def _view_of(tensor: Tensor) -> tuple[object, ...]:
    """Say how a tensor reads its memory."""
    flags = tensor.is_conj(), tensor.is_neg()
    if tensor.layout is not torch.strided:
        return (id(tensor),)
    return (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, *flags)


def _share_memory(a: Tensor, b: Tensor) -> bool:
    try:
        return bool(a.untyped_storage()._cdata == b.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # a layout without such a storage
        return False
