"""A function run in a process of its own, with a limit on its time, and what the process answers.

The answer is JSON, of which a value of a known type is made, or an error: a process that runs a
stranger's code may write into its pipe what it likes.
"""

from __future__ import annotations

import builtins
import faulthandler
import io
import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import EllipsisType, UnionType
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

import attrs
import numpy as np
import torch

from lincoln_fn.core import Key, LayerError, keys, unexpected
from lincoln_fn.grading.confined import TooMuchError, check_size
from lincoln_fn.testing.internal import Options, checked, from_numpy

# Characters of a text.
LONGEST_TEXT = 10_000
# No count or place is as large.
TOO_LARGE = 1 << 62
# What is said of a process that answers anything else.
NO_ANSWER = "writes into the pipe of the grading"
# Of what the code prints, this much is kept.
KEPT = 10_000
# Seconds between two looks at a process.
LOOK = 0.1
# Seconds. A new process imports torch, which the limit does not count.
START_LIMIT = 120.0
# Bytes.
LONGEST_ANSWER = 4 << 20
# What comes after the limited part may take this many times as long.
PATIENCE = 20
# What the process sends when it has started, and when the limited part has ended.
_MARK = b""
# A student's code, such as is graded.
_WRONG = """
def forward(x, w):
    return np.exp(x @ w).sum(), x, w
"""
T = TypeVar("T")


def printable(text: str) -> str:
    """Write what a terminal obeys, and what ends a line, as Python's `repr` does."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def in_one_line(text: str) -> str:
    """Make a sentence of one line, of a stranger's text."""
    return printable(" ".join(text.split()))


@attrs.frozen
class Ran(Generic[T]):
    """How a function ran; there is a result if there is no problem."""

    result: T | None = None
    problem: str = ""
    output: str = ""
    printed: int = 0


# Any: the type of the result, as annotations have it.
def read(kind: Any, text: bytes) -> Ran[Any]:
    """Read how a function ran whose result is of a type; raise a ValueError for anything else."""
    result, problem, output, printed = decoded(tuple[kind | None, str, str, int], text)
    if (result is None) != bool(problem):
        raise ValueError("expected a result or a problem")
    return Ran(result, problem, output, printed)


def encoded(value: object) -> bytes:
    """Write records, tuples, texts and numbers as JSON."""
    return json.dumps(value, default=attrs.asdict).encode()


# Any: a type, as annotations have it, and a value of it.
def decoded(kind: Any, text: bytes) -> Any:
    """Read a value of a type; raise a ValueError if it is of another, however deep inside."""
    return _checked(kind, json.loads(text))


def _checked(kind: Any, value: object) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is str and type(value) is str:
        return in_one_line(value[:LONGEST_TEXT])
    if kind is int and type(value) is int and 0 <= value < TOO_LARGE:
        return value
    if kind is float and type(value) is float:
        return value
    if origin is Literal and type(value) is str and value in arguments:
        return value
    if origin is UnionType:  # of a type and None
        return None if value is None else _checked(arguments[0], value)
    if origin is tuple and type(value) is list:
        is_any_number = isinstance(arguments[-1], EllipsisType)
        kinds = arguments[:1] * len(value) if is_any_number else arguments
        if len(kinds) == len(value):
            return tuple(map(_checked, kinds, value))
    if attrs.has(kind) and type(value) is dict and value.keys() == _hints(kind).keys():
        return kind(**{name: _checked(hint, value[name]) for name, hint in _hints(kind).items()})
    raise ValueError(f"expected {kind}, got another value")


@cache
def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record)


class _Printed(io.StringIO):
    """Counts what is printed, and keeps the beginning."""

    count = 0

    def write(self, text: str) -> int:
        self.count += len(text)
        super().write(text[: KEPT - self.tell()])
        return len(text)


# Any: the type of the result, of records, tuples, texts and numbers.
def run_isolated(
    call: Callable[..., T], answer: Any, limit: float, folder: Path | None = None
) -> Ran[T]:
    """Run a function in a process of its own, which ends if it writes too much into a folder."""
    _warm_up()
    is_copy = _can_fork()
    context = multiprocessing.get_context("fork" if is_copy else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    try:
        # mypy: a context of either kind has a Process of its own.
        process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=_run, args=(sender, call if is_copy else _dumps(call)), daemon=True
        )
        with warnings.catch_warnings():
            # Since 3.12 Python warns of a fork beside threads, and JAX of any. The new process uses
            # no lock of theirs, and one thread of torch.
            warnings.simplefilter("ignore")
            process.start()
    except Exception as error:
        expected = "a submission that another process can be given"
        mend = "give the path of its file, or install cloudpickle"
        raise unexpected("grade", expected, error, mend) from error
    sender.close()
    try:
        _await_start(receiver)
        return _received(receiver, process, answer, limit, folder)
    finally:
        _kill(process)
        process.join()
        receiver.close()


# Any: the type of the result.
def _received(
    receiver: Connection, process: BaseProcess, answer: Any, limit: float, folder: Path | None
) -> Ran[Any]:
    # A process that sends a part of an answer, and then nothing, is ended, too.
    end = threading.Timer((PATIENCE + 2) * limit, _kill, [process])
    end.start()
    limits = (limit, "does not end"), (PATIENCE * limit, "is not checked")
    try:
        for seconds, told in limits:
            if not _await(receiver, seconds, folder):
                return Ran(problem=f"{told} within {seconds:g} s")
            if (sent := receiver.recv_bytes(LONGEST_ANSWER)) != _MARK:
                return read(answer, sent)
        return Ran(problem=NO_ANSWER)
    except TooMuchError:
        return Ran(problem="writes too many or too large files")
    except EOFError:
        process.join()
        code = process.exitcode or 0
        how = f"crashes (signal {-code})" if code < 0 else f"ends the process (exit code {code})"
        return Ran(problem=how)
    except Exception:  # what is no answer raises errors of any kind
        return Ran(problem=NO_ANSWER)
    finally:
        end.cancel()
        end.join()


def _await(receiver: Connection, seconds: float, folder: Path | None) -> bool:
    """Wait for an answer, and look after the folder meanwhile."""
    end = time.monotonic() + seconds
    while not receiver.poll(LOOK):
        if time.monotonic() > end:
            return False
        if folder is not None:
            check_size(folder)
    return True


def _await_start(receiver: Connection) -> None:
    with suppress(EOFError):
        if receiver.poll(START_LIMIT):
            receiver.recv_bytes(LONGEST_ANSWER)
            return
    mend = 'a script that calls grade needs `if __name__ == "__main__":`'
    raise LayerError("grade", f"expected a new process to start, but it does not; {mend}")


def _kill(process: BaseProcess) -> None:
    """Kill a process, and those that it has started."""
    if hasattr(os, "killpg") and process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


@cache
def _warm_up() -> None:
    """Check a wrong layer: what that imports and makes at its first use, each copy then has."""
    if sys.platform == "linux" and not torch.cuda.device_count():  # autograd would start threads
        names: dict[str, Any] = {"np": np}
        exec(_WRONG, names)
        x, w = keys.normal(Key(0), (3, 2)), keys.normal(Key(1), (2, 4))
        checked(from_numpy(names["forward"]), (w.double(),), x.double(), Options(all=True))


def _can_fork() -> bool:
    """Return whether a copy of this process can do all that this process can."""
    if sys.platform != "linux":
        return False
    # Where there is an accelerator, autograd starts threads at its first use, and does not run in a
    # copy of the process then.
    for task in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # the thread may have ended since
            if task.read_text().startswith("pt_autograd"):
                return False
    return True


def _dumps(value: object) -> bytes:
    """Pickle a value, its functions too; by cloudpickle, where it is installed, a notebook's."""
    try:
        from cloudpickle import dumps
    except ImportError:
        from pickle import dumps
    sent: bytes = dumps(value)
    return sent


# Any: a function, or its pickle.
def _run(sender: Connection, call: Any) -> None:
    if isinstance(call, bytes):
        call = pickle.loads(call)
    else:  # in a copy of another process, but without the files that it has open
        os.closerange(3, sender.fileno())
        os.closerange(sender.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    if hasattr(os, "setsid"):
        os.setsid()
    printed, nowhere = _Printed(), os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), printed, printed
    builtins.input = _no_input  # a notebook has one of its own
    faulthandler.disable()  # it would write to the standard error of the process copied
    torch.set_num_threads(1)
    sender.send_bytes(_MARK)
    result, problem = None, ""
    try:
        result = call(partial(sender.send_bytes, _MARK))
    except BaseException as error:  # sys.exit, too
        message = in_one_line(str(error))[:200]
        problem = f"raises {type(error).__name__}" + (message and f": {message}")
    sender.send_bytes(encoded((result, problem, printed.getvalue(), printed.count)))


def _no_input(prompt: object = "") -> str:
    raise EOFError("there is nobody to ask")
