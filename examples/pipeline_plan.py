"""What a step of a pipeline of many stages would take, from times measured in this process.

A transformer has a block in each stage; the stages are measured one after the other. Printed are
for each schedule the bubble by the formula for equal stages and the simulated one, the time from
step to step, the caches that a stage keeps at once, and the MB of these and of its parameters.

    python pipeline_plan.py --equal --stages 4 --microbatches 12
    torchrun --nproc-per-node 2 pipeline_plan.py

With torchrun, the connection of two processes is measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from options import picture_file, positive_int
from pipeline_simulation import Link, Stage, Times, draw, plan, trace

import lincoln_fn as lf
from lincoln_fn import distributed

BATCH_SIZE, LENGTH, CHARACTERS, WIDTH = 4, 64, 64, 128  # of a microbatch, and of the network
# The schedules, the bubble of equal stages in terms of (p - 1) / m, and whether dx is sent after W.
SCHEDULES = {
    "1f1b-joint": (distributed.one_f_one_b, 1.0, True),
    "gpipe": (distributed.gpipe, 2 / 3, False),
    "1f1b": (distributed.one_f_one_b, 2 / 3, False),
    "h1": (distributed.zero_bubble_h1, 1 / 3, False),
    "h2": (distributed.zero_bubble_h2, 0.0, False),
}


def measure(
    layers: Sequence[lf.Layer], x: Any, link: Link | None = None, repeats: int = 5
) -> tuple[Stage, ...]:
    """Measure stages one after the other, without a loss; of each, the least time counts.

    Args:
        layers: the stages.
        x: one microbatch.
        link: between two stages; None takes no time.
        repeats: how often each stage is measured.
    """
    link, measured = link or Link(), []
    for i, layer in enumerate(map(lf.fast, layers)):
        params = layer.init(lf.Key(i), x)
        y = lf.tree.map(torch.Tensor.contiguous, layer.forward(params, x)[0])  # as it is sent
        g = lf.tree.map(torch.ones_like, y)
        rounds = [_round(layer, params, x, g, i > 0) for _ in range(repeats)]
        least = [min(of_action) for of_action in zip(*(times for times, _ in rounds), strict=True)]
        send = link.seconds(_bytes(y)) if i < len(layers) - 1 else 0.0
        measured.append(Stage(Times(*least, send), rounds[0][1], _bytes(params)))
        x = y
    return tuple(measured)


def _round(
    layer: lf.Layer, params: Any, x: Any, g: Any, wants_dx: bool
) -> tuple[tuple[float, float, float], int]:
    """Compute F, B and W once, and return their times and the bytes kept between them."""
    with torch.no_grad():
        begin = _now()
        _, cache = layer.forward(params, x)
        forward = _now()
        _, sites = lf.walk.cotangents(layer, params, cache, g, dx=wants_dx)
        back = _now()
        lf.walk.grads_at(layer, params, sites)
        end = _now()
    known = _storages(params)
    kept = max(_bytes(each, known) for each in (cache, sites))
    return (forward - begin, back - forward, end - back), kept


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def _bytes(arrays: Any, known: Collection[int] = ()) -> int:
    """Count the bytes of tensors, each memory once, without those of known addresses."""
    return sum(size for place, size in _storages(arrays).items() if place not in known)


def _storages(arrays: Any) -> dict[int, int]:
    """Return the sizes of the memory of tensors, by address."""
    storages = (leaf.untyped_storage() for leaf in lf.tree.leaves(arrays, states=True))
    return {each.data_ptr(): each.nbytes() for each in storages}


def measure_link(group: distributed.Group, like: torch.Tensor, repeats: int = 5) -> Link:
    """Measure the connection between the first two processes of a group, which all call it.

    `like` is a tensor of the size that stages send. It is sent `repeats` times; the least counts.
    """
    if group.size == 1:
        raise ValueError("expected at least 2 processes, got 1; start them by torchrun")
    sizes = (like.flatten()[:1], like)
    least = [min(_back_and_forth(group, x) for _ in range(repeats)) for x in sizes]
    own = torch.tensor(least, dtype=torch.float64, device=like.device)
    latency, whole = group.gather(own)[0].tolist()
    return Link(latency, (like.nbytes - like.itemsize) / max(whole - latency, 1e-9))


def _back_and_forth(group: distributed.Group, x: torch.Tensor) -> float:
    """Send a tensor to the second process and back, and return half the time."""
    begin = time.perf_counter()
    if group.rank == 0:
        sent = group.send(x, 1)
        group.receive(x, 1)
    elif group.rank == 1:
        group.receive(x, 0)
        sent = group.send(x, 0)
    else:
        return 0.0
    if sent is not None:
        sent.wait()
    return (time.perf_counter() - begin) / 2


def split_into_stages(net: lf.Layer, x: Any, count: int, repeats: int = 3) -> tuple[lf.Layer, ...]:
    """Cut an `lf.serial` into stages, so that the slowest on the microbatch x is fastest."""
    if not 1 <= count <= len(net.parts):
        raise ValueError(f"expected from 1 to {len(net.parts)} stages, as net has, got {count}")
    times = [each.times for each in measure(net.parts, x, repeats=repeats)]
    cuts = cut_evenly([each.F + each.B + each.W for each in times], count)
    return tuple(lf.serial(*net.parts[begin:end]) for begin, end in pairwise(cuts))


def cut_evenly(costs: Sequence[float], count: int) -> list[int]:
    """Divide numbers into intervals whose largest sum is least, by dynamic programming."""
    n = len(costs)
    # By the number of intervals and where they end: the largest sum, and the cuts.
    best = {(1, end): (sum(costs[:end]), [0, end]) for end in range(1, n + 1)}
    for k in range(2, count + 1):
        for end in range(k, n + 1):
            best[k, end] = min(
                (max(best[k - 1, cut][0], sum(costs[cut:end])), [*best[k - 1, cut][1], end])
                for cut in range(k - 1, end)
            )
    return best[count, n][1]


def make_stages(count: int) -> tuple[lf.Layer, ...]:
    """Make the stages, from codes (batch, length) to scores, with a block in each."""
    attend = lf.serial(lf.layer_norm(), lf.multi_head_attention(4, is_causal=True))
    think = lf.serial(lf.layer_norm(), lf.dense(4 * WIDTH), lf.gelu(), lf.dense(WIDTH))
    first = lf.embedding(CHARACTERS, WIDTH), lf.positional_embedding(LENGTH)
    last = lf.layer_norm(), distributed.scores(CHARACTERS)
    stages = [(lf.residual(attend), lf.residual(think)) for _ in range(count)]
    stages[0] = *first, *stages[0]
    stages[-1] = *stages[-1], *last
    return tuple(lf.serial(*parts) for parts in stages)


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nA default run takes some seconds.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    count = partial(parser.add_argument, type=positive_int)
    count("--stages", default=8, help="of the pipeline (default: 8)")
    count("--microbatches", default=32, help="of a batch (default: 32)")
    count("--pipelines", default=1, help="that run beside each other (default: 1)")
    count("--repeats", default=5, help="of the measurement; the least time counts (default: 5)")
    parser.add_argument("--latency", type=float, default=20e-6, help="in seconds (default: 20e-6)")
    parser.add_argument("--bandwidth", type=float, default=1e9, help="in bytes/s (default: 1e9)")
    parser.add_argument("--equal", action="store_true", help="no measurement: an action takes 1 s")
    parser.add_argument("--cut", action="store_true", help="cut so that the slowest is fastest")
    parser.add_argument("--schedule", choices=SCHEDULES, default="h1", help="of picture and trace")
    parser.add_argument("--plot", type=picture_file, metavar="FILE.png", help="save the picture")
    parser.add_argument("--trace", type=Path, metavar="FILE.json", help="save the trace")
    return parser.parse_args(arguments)


def measured_stages(options: argparse.Namespace, link: Link) -> Sequence[Stage]:
    """Measure the stages of the transformer, unless all are to be equal."""
    if options.equal:
        return [Stage()] * options.stages
    layers = make_stages(options.stages)
    x = lf.keys.uniform(lf.Key(10), (BATCH_SIZE, LENGTH), 0, CHARACTERS).long()
    if options.cut:
        net = lf.serial(*(part for layer in layers for part in layer.parts))
        layers = split_into_stages(net, x, options.stages, options.repeats)
    return measure(layers, x, link, options.repeats)


def from_to(numbers: Sequence[float]) -> str:
    """Write the least and the greatest number, such as 1-8, or one if they are the same."""
    return "-".join(dict.fromkeys(f"{number:.0f}" for number in (min(numbers), max(numbers))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, simulate and print."""
    options = parse_options(arguments)
    torch.set_num_threads(1)  # as many as a process of a pipeline has
    link = Link(options.latency, options.bandwidth)
    with distributed.connect() as group:
        if group.size > 1:
            link = measure_link(group, torch.ones(BATCH_SIZE, LENGTH, WIDTH))
            if group.rank == 0:
                print(f"latency {link.latency:.2g} s, {link.bandwidth:.2g} bytes/s")
    if group.rank > 0:
        return
    stages = measured_stages(options, link)
    print("schedule    formula  simulated    period  caches  MB")
    for name, (make, factor, joint_backward) in SCHEDULES.items():
        schedule = make(options.stages, options.microbatches)
        made = plan(schedule, stages, link, options.pipelines, joint_backward)
        formula = factor * (options.stages - 1) / options.microbatches
        row = f"{name:10} {formula:8.1%} {made.bubble:10.1%} {made.period:7.3g} s"
        print(f"{row}  {from_to(made.caches):6}  {from_to([n / 1e6 for n in made.bytes])}")
        if name == options.schedule and options.plot:
            draw(made).figure.savefig(options.plot, dpi=120, format="png")
        if name == options.schedule and options.trace:
            options.trace.write_text(trace(made))


if __name__ == "__main__":
    main()
