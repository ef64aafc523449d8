"""nanoGPT's CPU configuration on tiny Shakespeare, ours and torch: losses and times side by side.

    python -m benchmarks.nanogpt shakespeare.txt --seed 0 1 2 3 4

The network, its settings and the measure of held-out text are those of examples/char_nanogpt.py.
All programs begin with the same weights, learn from the same windows, and take turns of 50 steps in
one process, so whatever slows the machine for a while slows all alike. The times are those of the
processor: a step's in the fastest turn and in the middle one, and all of them together. torch is
written as nanoGPT is. Compiled, it has the fused optimizer, too, which is faster.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from operator import truediv
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lincoln_fn as lf
from benchmarks import report
from benchmarks.peers import _torch

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import char_nanogpt as example
import characters

TURN = 50  # steps
PROGRAMS = ("ours", "ours, compiled", "torch", "torch.compile")


class Network(nn.Module):
    """nanoGPT's network without biases, with the weights that ours begins with."""

    def __init__(self, params: lf.Params) -> None:
        super().__init__()
        width, heads = example.WIDTH, example.HEADS
        (embedding, (positions, blocks, norm)), _ = params
        self.embedding = nn.Parameter(embedding.weight.clone())
        self.positions = nn.Parameter(positions.weight.clone())
        self.blocks = nn.Sequential(*(_torch.Block(width, heads, bias=False) for _ in blocks))
        self.norm = nn.LayerNorm(width, bias=False)
        self.norm.load_state_dict({"weight": norm.weight})
        for block, ((attend, _), (think, _)) in zip(self.blocks, blocks, strict=True):
            of = attend[1]
            qkv = torch.cat([part.weight for part in (of.query, of.key, of.value)], 1)
            block.load_state_dict(
                {
                    "norm1.weight": attend[0].weight,
                    "qkv.weight": qkv.mT,
                    "proj.weight": of.output.weight.mT,
                    "norm2.weight": think[0].weight,
                    "up.weight": think[1].weight.mT,
                    "down.weight": think[3].weight.mT,
                }
            )

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (batch, length, codes)."""
        h = F.embedding(x, self.embedding) + self.positions[: x.shape[1]]
        return self.norm(self.blocks(h)) @ self.embedding.mT


class Torch:
    """A training by torch, as nanoGPT's train.py does it."""

    def __init__(self, params: lf.Params, steps: int, *, compiled: bool) -> None:
        self.net, self.steps, self.step = Network(params), steps, 0
        self.logits: Callable[[Tensor], Tensor] = torch.compile(self.net) if compiled else self.net
        leaves = list(self.net.parameters())
        groups = [
            {"params": [p for p in leaves if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in leaves if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, example.LR, betas=(0.9, 0.99), fused=compiled or None
        )

    def rate(self) -> float:
        """Compute the learning rate of this step."""
        lr, lr_min, warmup = example.LR, example.LR_MIN, example.WARMUP
        if self.step < warmup:
            return lr * (self.step + 1) / (warmup + 1)
        done = (self.step - warmup) / (self.steps - warmup)
        return lr_min + 0.5 * (1.0 + math.cos(math.pi * done)) * (lr - lr_min)

    def take(self, x: Tensor, target: Tensor) -> float:
        """Take a step, and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        loss = F.cross_entropy(self.logits(x).flatten(0, 1), target.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    def held_out(self, codes: Tensor) -> float:
        """Compute the loss on held-out text."""
        net = lf.Layer("torch", lambda params, x: (self.net(x).mT, ()), lambda *_: ((), ()))
        with torch.no_grad():
            return characters.bits_per_character(net, (), codes, example.LENGTH) * math.log(2)


class Ours:
    """A training by lincoln_fn, as the example does it."""

    def __init__(
        self,
        net: lf.Layer,
        params: lf.Params,
        steps: int,
        *,
        compiled: bool,
        gradient: lf.Gradient | None = None,
    ) -> None:
        self.net, optimizer = net, example.make_optimizer(steps)
        loss = lf.losses.softmax_cross_entropy()
        step = lf.make_step(net, loss, optimizer, gradient=gradient)
        self.step = lf.compile(step) if compiled else step
        x = torch.zeros(1, example.LENGTH, dtype=torch.long)
        key, own = lf.Key(0), {"params": params, "gradient": gradient}
        self.state = lf.init_state(net, optimizer, key, x, **own)

    def take(self, x: Tensor, target: Tensor) -> float:
        """Take a step, and return its loss."""
        self.state, loss = self.step(self.state, (x, target))
        return loss.item()

    def held_out(self, codes: Tensor) -> float:
        """Compute the loss on held-out text."""
        bits = characters.bits_per_character(self.net, self.state.params, codes, example.LENGTH)
        return bits * math.log(2)


def programs(alphabet_size: int, key: lf.Key, steps: int) -> dict[str, Callable[[], Ours | Torch]]:
    """Give what makes each program, all with the same weights."""
    net = example.make_network(alphabet_size)
    params = net.init(key, torch.zeros(1, example.LENGTH, dtype=torch.long))
    noise = lf.per_example.noise_scale()
    return {
        "ours": lambda: Ours(net, params, steps, compiled=False),
        "ours, compiled": lambda: Ours(net, params, steps, compiled=True),
        "ours, noise": lambda: Ours(net, params, steps, compiled=False, gradient=noise),
        "ours, compiled, noise": lambda: Ours(net, params, steps, compiled=True, gradient=noise),
        "torch": lambda: Torch(params, steps, compiled=False),
        "torch.compile": lambda: Torch(params, steps, compiled=True),
    }


def windows(text: characters.Text, key: lf.Key, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the batches of a run."""
    return characters.random_windows(
        text.train, example.BATCH_SIZE, example.LENGTH, steps, key.fold_in(1)
    )


def measure(text: characters.Text, seed: int, steps: int, names: Sequence[str], turn: int) -> None:
    """Train the programs in turn; print the held-out loss and the times of each."""
    key = lf.Key(seed)
    known = programs(len(text.alphabet), key, steps)
    made, first = {}, {}
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        began = time.perf_counter()
        made[name] = known[name]()
        made[name].take(*next(windows(text, key, steps)))
        first[name] = time.perf_counter() - began
        made[name] = known[name]()  # which finds what is compiled
        made[name].take(*next(windows(text, key, steps)))
    # Each has taken the first step.
    batches = itertools.islice(windows(text, key, steps), 1, None)
    turns = iter(lambda: list(itertools.islice(batches, turn)), [])
    for number, taken in enumerate(turns):
        # Each begins in its turn, so that none always follows the same one.
        for name in (names * 2)[number % len(names) :][: len(names)]:
            began = time.process_time()
            for x, target in taken:
                made[name].take(x, target)
            times[name].append((time.process_time() - began) / len(taken))
    for name in names:
        ratio = statistics.median(map(truediv, times[name], times[names[0]]))
        fastest, middle = 1000 * min(times[name]), 1000 * statistics.median(times[name])
        print(
            f"seed {seed}  {name:15s} held out {made[name].held_out(text.held_out):.4f}"
            f"   {fastest:6.2f} to {middle:6.2f} ms a step"
            f"   {statistics.mean(times[name]) * steps:6.1f} s"
            f"   {first[name]:5.1f} s to the first step"
            f"   {ratio:.3f} of {names[0]}",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help="the file of tiny Shakespeare")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=example.STEPS)
    every = tuple(programs(1, lf.Key(0), 1))
    parser.add_argument("--program", nargs="+", choices=every, default=list(PROGRAMS))
    parser.add_argument("--turn", type=int, default=TURN, help="steps (default: 50)")
    parser.add_argument("--keep-memory", action="store_true", help="keep what tensors have freed")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.keep_memory:
        lf.keep_freed_memory()
    print(report.machine(options.threads), flush=True)
    text = characters.load_text(options.text)
    for seed in options.seed:
        measure(text, seed, options.steps, options.program, options.turn)


if __name__ == "__main__":
    main()
