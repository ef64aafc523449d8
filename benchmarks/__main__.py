"""Time a training step beside every peer's, in one run: `python -m benchmarks`.

Each peer trains the same network, layer for layer, from the same weights on the same batches, in a
process of its own with the same number of threads; rounds of steps are taken in turn, and the loss
is read back after each step. A peer whose losses diverge from torch's in the first 20 steps is
rejected. The figures to quote are the ratios.

Instead of that, one can see the peak of a step's memory (--memory), the time to the first step from
an empty cache (--compile-time), the total time of 1 to 10,000 steps (--length), how time and memory
grow (--growth), the notebook's MNIST run from files to the last accuracy (--end-to-end), the
notebook's own networks beside torch alone (--notebook), the norms and clipped sums of single
examples' gradients (--per-example), products with second derivatives (--curvature), a step on two
processes (--distributed), exported steps in ONNX Runtime (--exported), or LoRA and text of a real
language model beside peft and transformers (--fine-tuning).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.peers import BASELINE, FLOOR, PEERS
from benchmarks.runner import Row, measure
from benchmarks.workloads import LEARNING_RATES, WORKLOADS


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    part = parser.add_mutually_exclusive_group()
    for name, what in (
        ("memory", "the peak of a step's memory beside torch eager's"),
        ("compile-time", "seconds to the first step from an empty cache, beside other compilers'"),
        (
            "length",
            "seconds of 1 to 10,000 steps from a fresh process, caches empty and warm",
        ),
        ("growth", "time and memory against batch, width and depth, with fitted exponents"),
        ("end-to-end", "the notebook's MNIST run; LINCOLN_FN_DATA names the folder of the data"),
        ("notebook", "the notebook's networks beside torch, in one process"),
        ("per-example", "gradients of single examples beside opacus and BackPACK, in one process"),
        ("distributed", "two processes beside torch's DistributedDataParallel, in the same ones"),
        ("curvature", "second derivatives beside torch.func, BackPACK and curvlinops, likewise"),
        ("fine-tuning", "LoRA and text of SmolLM2 beside peft and transformers, in one process"),
        ("exported", "steps of eight networks that lf.export_step wrote, in ONNX Runtime"),
        ("busy", "steps beside other work, and beside themselves, with settings of the threads"),
    ):
        part.add_argument(f"--{name}", action="store_true", help=what)
    parser.add_argument(
        "--workload", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="default: all"
    )
    parser.add_argument(
        "--peer",
        nargs="+",
        choices=PEERS,
        default=list(PEERS),
        help="default: all; torch_eager always takes part",
    )
    parser.add_argument("--optimizer", choices=LEARNING_RATES, default="sgd", help="default: sgd")
    parser.add_argument("--rounds", type=int, default=11, help="in turn (default: 11)")
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="about as long is a peer's turn (default: 0.2)"
    )
    parser.add_argument(
        "--patience", type=float, default=600, help="seconds for a peer's set-up (default: 600)"
    )
    parser.add_argument("--threads", type=int, default=2, help="of each peer (default: 2)")
    parser.add_argument(
        "--lengths", nargs="+", type=int, default=[1, 10, 100, 1000, 10_000], help="of --length"
    )
    parser.add_argument("--chromium", action="store_true", help="exported steps in Chromium, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save all that was measured")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="save a picture")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    options = parse_options(arguments)
    machine = report.machine(options.threads)
    print(machine, flush=True)
    if options.notebook:
        from benchmarks import notebook

        notebook.main(["--rounds", str(options.rounds), "--threads", str(options.threads)])
        return
    if options.distributed:
        from benchmarks import distributed

        distributed.main(options.rounds)
        return
    parts = {
        "memory": show_memory,
        "compile_time": show_compile_time,
        "length": show_length,
        "growth": show_growth,
        "end_to_end": show_end_to_end,
        "per_example": show_per_example,
        "curvature": show_curvature,
        "fine_tuning": show_fine_tuning,
        "exported": show_exported,
        "busy": show_busy,
    }
    shown = next((parts[name] for name in parts if getattr(options, name)), show_steps)
    measured = shown(options, str(machine))
    if options.json:
        about = {"machine": machine._asdict(), "optimizer": options.optimizer}
        options.json.write_text(json.dumps({**about, **measured}, indent=1))


def show_steps(options: argparse.Namespace, machine: str) -> dict[str, Any]:
    """Time the workloads' steps; print the rows of each as they come, and the table."""
    peers = [peer for peer in PEERS if peer in options.peer or peer == BASELINE]
    print(f"float32, {options.optimizer}, {options.rounds} rounds", flush=True)
    results: dict[str, list[Row]] = {}
    for workload in options.workload:
        results[workload] = measure(
            workload,
            options.optimizer,
            peers,
            rounds=options.rounds,
            seconds=options.seconds,
            threads=options.threads,
            patience=options.patience,
            say=lambda words: print(words, file=sys.stderr, flush=True),
        )
        print(report.details({workload: results[workload]}), flush=True)
    print(f"\n{report.CAPTION}\n\n{report.table(results)}")
    if options.picture:
        report.picture(options.picture, results, f"{machine}; float32, {options.optimizer}")
    return report.as_data(results)


def show_memory(options: argparse.Namespace, machine: str) -> dict[str, Any]:
    """Print the peaks of memory."""
    import torch

    from benchmarks import memory

    torch.set_num_threads(options.threads)
    results = memory.report(options.workload, options.optimizer)
    return {
        "memory": {w: {p: peaks._asdict() for p, peaks in of.items()} for w, of in results.items()}
    }


def show_compile_time(options: argparse.Namespace, machine: str) -> dict[str, Any]:
    """Print the seconds to the first step."""
    from benchmarks import length

    results = length.measure(
        options.workload, options.optimizer, options.threads, options.patience,
        peers=length.COMPILERS, lengths=(1,), is_warm=False,
    )  # fmt: skip
    print(length.compile_times(results))
    return {"compile_time": results}


def show_length(options: argparse.Namespace, machine: str) -> dict[str, Any]:
    """Print the total seconds of runs of several lengths, and save the plot."""
    from benchmarks import length

    peers = [peer for peer in length.COMPARED if peer in options.peer or peer == BASELINE]
    results: dict[str, length.Seconds] = {}
    for name in options.workload:  # Who stops the program has the tables until then.
        results |= length.measure(
            [name], options.optimizer, options.threads, options.patience,
            peers=peers, lengths=options.lengths,
        )  # fmt: skip
        print(length.table({name: results[name]}), flush=True)
    if options.picture:
        length.picture(options.picture, results, f"{machine}; float32, {options.optimizer}")
    return {"length": results}


def show_growth(options: argparse.Namespace, machine: str) -> dict[str, Any]:
    """Print the exponents, and save the plot."""
    import torch

    from benchmarks import growth

    torch.set_num_threads(options.threads)
    results = growth.measure(rounds=options.rounds)
    print(growth.table(results))
    if options.picture:
        growth.picture(options.picture, results, f"How a step's cost grows\n{machine}")
    return {
        "growth": {
            axis: {name: [point._asdict() for point in points] for name, points in curves.items()}
            for axis, curves in results.items()
        }
    }


def show_end_to_end(options: argparse.Namespace, machine: str) -> dict[str, Any]:
    """Print the seconds of the MNIST run."""
    from benchmarks import end_to_end

    results = end_to_end.measure(list(end_to_end.PROGRAMS), min(options.rounds, 3), options.threads)
    print(end_to_end.table(results))
    return {"end_to_end": results}


def show_per_example(options: argparse.Namespace, machine: str) -> dict[str, Any]:
    """Print the times for single examples, as multiples of torch's forward and backward."""
    import torch

    from benchmarks import per_example

    torch.set_num_threads(options.threads)
    names = [name for name in per_example.SUPPORTED if name in options.workload]
    results = per_example.measure(names, options.rounds, options.seconds, print)
    print(f"{per_example.CAPTION}\n\n{per_example.table(results)}")
    return {"per_example": results}


def show_curvature(options: argparse.Namespace, machine: str) -> dict[str, Any]:
    """Print the times of second derivatives, beside those of the libraries made for them."""
    import torch

    from benchmarks import curvature

    torch.set_num_threads(options.threads)
    names = [name for name in curvature.DEFAULT if name in options.workload]
    results = curvature.measure(names, options.rounds, print)
    print(curvature.table(results))
    return {"curvature": results}


def show_fine_tuning(options: argparse.Namespace, machine: str) -> dict[str, Any]:
    """Print a step of LoRA and a token of text, as multiples of torch's."""
    import torch

    from benchmarks import fine_tuning

    torch.set_num_threads(options.threads)
    results = fine_tuning.measure(fine_tuning.find_file(), options.rounds, print)
    print(f"{fine_tuning.CAPTION}\n\n{fine_tuning.table(results)}")
    return {"fine_tuning": results}


def show_exported(options: argparse.Namespace, machine: str) -> dict[str, Any]:
    """Print the times of exported steps, beside the steps that they were."""
    import attrs

    from benchmarks import exported
    from benchmarks.exported_networks import NETWORKS

    results = exported.measure(
        list(NETWORKS), options.rounds, options.seconds, options.chromium, print
    )
    print(exported.tables(results))
    return {"exported": {name: attrs.asdict(result) for name, result in results.items()}}


def show_busy(options: argparse.Namespace, machine: str) -> dict[str, Any]:
    """Print the steps a second on a machine that does other work."""
    from benchmarks import busy

    peers = [peer for peer in PEERS if peer in options.peer and peer != FLOOR]
    results = {}
    for workload in options.workload:
        results[workload] = busy.measure(
            workload,
            options.optimizer,
            peers,
            rounds=options.rounds,
            seconds=options.seconds,
            patience=options.patience,
        )
        print(busy.table({workload: results[workload]}), flush=True)
    return {"busy": results}


if __name__ == "__main__":
    main()
