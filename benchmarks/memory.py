"""The peak of live bytes in a step, ours beside torch eager's: `python -m benchmarks --memory`.

Counted in two ways, the same for both:

- tensors: the bytes of all tensors that are alive at once, seen after each operation; of ours, that
  is the step of Python, as the first two of a run, since a mode looks on;
- allocated: what torch's allocator has handed out at once, which adds what kernels take for
  themselves, and sees into compiled steps too.

Both begin with what is alive before the step: parameters, the optimizer's state, a batch and, with
torch, gradients.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.peers import Way, ours, torch_eager
from benchmarks.workloads import WORKLOADS, Workload

MARK = "the step that is measured"


class Peaks(NamedTuple):
    """The peaks of a step, in bytes; tensors is None for a compiled step, which hides them."""

    tensors: int | None
    allocated: int


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors alive, from the operations that run within it.

    Args:
        held: tensors that are alive before.
    """

    def __init__(self, held: Sequence[Tensor]) -> None:
        super().__init__()
        self._live: dict[int, tuple[weakref.ref[Any], int]] = {}
        self.peak = 0
        self._see(held)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and count what is alive with its outputs."""
        outputs = func(*args, **(kwargs or {}))
        found: list[Tensor] = []
        torch.utils._pytree.tree_map_only(Tensor, found.append, outputs)
        self._see(found)
        return outputs

    def _see(self, tensors: Sequence[Tensor]) -> None:
        self._live = {key: seen for key, seen in self._live.items() if seen[0]() is not None}
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._live[id(storage)] = (weakref.ref(storage), storage.nbytes())
        self.peak = max(self.peak, sum(count for _, count in self._live.values()))


def tensors_alive() -> list[Tensor]:
    """List the tensors that Python holds, and the gradients of those that have one.

    A tensor that a compiler keeps to remember a shape has no bytes, and is left out; so is a sparse
    one, which no network here has.
    """
    gc.collect()
    # By its type, for to ask some objects of torch for their class is deprecated.
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    found = [t for t in found if t.layout is torch.strided]
    found += [t.grad for t in found if t.is_leaf and t.grad is not None]
    return [t for t in found if t.untyped_storage().device.type != "meta"]


def begun(make: Callable[[], Way]) -> tuple[Callable[[], float], list[Tensor]]:
    """Start a program.

    Args:
        make: builds it.

    Returns:
        Its step, warm, and the tensors that it holds between steps.
    """
    before = {id(tensor.untyped_storage()) for tensor in tensors_alive()}
    step = make().step
    for _ in range(3):
        step()
    held = [t for t in tensors_alive() if id(t.untyped_storage()) not in before]
    return step, held


def tensors_peak(make: Callable[[], Way]) -> int:
    """Measure the most bytes of tensors alive at once in a step; not for a compiled one."""
    step, held = begun(make)
    with LiveBytes(held) as live:
        del held
        step()
    return live.peak


def allocated_peak(make: Callable[[], Way]) -> int:
    """Measure the most bytes that the allocator has handed out at once in a step."""
    step, held = begun(make)
    storages = (tensor.untyped_storage() for tensor in held)
    bytes_held = sum({id(storage): storage.nbytes() for storage in storages}.values())
    del held
    return bytes_held + allocated(step)


def peaks(make: Callable[[], Way], *, compiled: bool = False) -> Peaks:
    """Measure both peaks of a step.

    Args:
        make: builds the program that takes the step.
        compiled: whether its tensors are hidden.

    Returns:
        The peaks.
    """
    return Peaks(None if compiled else tensors_peak(make), allocated_peak(make))


def allocated(step: Callable[[], object]) -> int:
    """Give the most bytes that torch's allocator hands out within a step, beyond those before.

    A step goes before it, for of memory that is older than the record no release is recorded.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
        with record_function(MARK):
            step()
    events = record.profiler.kineto_results.events()
    (began,) = (event.start_ns() for event in events if event.name() == MARK)
    changes = ((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    now = most = 0
    for _, change in sorted((at, change) for at, change in changes if at >= began):
        now += change
        most = max(most, now)
    return most


def measure(workload: Workload, optimizer: str) -> dict[str, Peaks]:
    """Measure ours, eager and compiled, each with its state donated, and torch eager."""
    workload = attrs.evolve(workload, distinct=1)
    _, donated = ours.ways(workload, optimizer)
    _, compiled = ours.ways(workload, optimizer, compiled=True)
    return {
        "ours": peaks(donated),
        "ours_compiled": peaks(compiled, compiled=True),
        "torch_eager": peaks(torch_eager.ways(workload, optimizer)[0]),
    }


def table(results: Mapping[str, Mapping[str, Peaks]]) -> str:
    """Make the table of peaks, in MiB, and their ratios to torch eager's."""
    heads = ("ours", "torch", "ratio", "ours", "compiled", "torch", "ratio", "compiled")
    lines = [f"{'':12}{'tensors alive, MiB':>30}{'handed out by the allocator, MiB':>50}"]
    lines.append(f"{'workload':12}" + "".join(f"{head:>10}" for head in heads))
    for name, of in results.items():
        eager, graph, torchs = of["ours"], of["ours_compiled"], of["torch_eager"]
        assert eager.tensors is not None
        assert torchs.tensors is not None
        cells = [_mib(eager.tensors), _mib(torchs.tensors), f"{eager.tensors / torchs.tensors:.2f}"]
        cells += [_mib(of[peer].allocated) for peer in ("ours", "ours_compiled", "torch_eager")]
        cells += [f"{peak.allocated / torchs.allocated:.2f}" for peak in (eager, graph)]
        lines.append(f"{name:12}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def report(names: Sequence[str], optimizer: str) -> dict[str, dict[str, Peaks]]:
    """Measure workloads and print the table."""
    results = {name: measure(WORKLOADS[name], optimizer) for name in names}
    print(f"\nThe peak of a step's memory, {optimizer}\n\n{table(results)}")
    return results


def _mib(count: int) -> str:
    return f"{count / 2**20:.2f}"
