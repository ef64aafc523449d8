"""The MNIST run of the notebook, from the files on disk to the last accuracy.

    python -m benchmarks --end-to-end

A 784-500-10 network with sigmoid and log-softmax, batches of 128, SGD with 0.003 on the sum of the
losses, 5 epochs, and the accuracy on the 10,000 test images 23 times: every 100 steps, the last at
the end. Each program runs in a process of its own, in turn; imports are not timed.

ours reads the files by torchvision, as examples/mnist.py does, eager or compiled; the ancestor is
the notebook's library, and torch eager torch's tutorial, both with a DataLoader that transforms
each image; torch tuned holds the images in memory, has a fused optimizer, and keeps freed memory as
ours does. A compiled program compiles its steps and its predictions anew; run again, it finds on
disk what it compiled before. With bfloat16, torch is allowed to make products of float32 in
bfloat16, where the processor has units for it; ours may make them in float16, with more digits.
With autocast torch is told to, and with in_dtype so are ours, and the images are kept in bfloat16;
parameters stay in float32 everywhere.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import lincoln_fn as lf
from benchmarks import ancestor
from benchmarks.worker import environment, hold_to

EPOCHS, BATCH, TEST_BATCH, EVERY, LR = 5, 128, 2000, 100, 0.003
MEAN, DEVIATION = 0.1307, 0.3081
STEPS = EPOCHS * -(-60_000 // BATCH)

Images = tuple[Tensor, Tensor]


def folder() -> Path:
    """Give the folder that holds MNIST/raw: the one that LINCOLN_FN_DATA names, or the cache."""
    return Path(os.environ.get("LINCOLN_FN_DATA", "~/.cache/lincoln_fn")).expanduser()


def load(train: bool, dtype: torch.dtype = torch.float32) -> Images:
    """Read images as rows of 784 numbers, of mean 0 and variance 1, and their labels."""
    data = torchvision.datasets.MNIST(folder(), train=train)
    rows = data.data.flatten(1).to(dtype).sub_(255 * MEAN).div_(255 * DEVIATION)
    return rows, data.targets


def measured_at(step: int) -> bool:
    """Tell whether the accuracy is measured after a step: 23 times in 2345."""
    return step == STEPS or (step % EVERY == 0 and step + EVERY <= STEPS)


def run_ours(compiled: bool = False, dtype: torch.dtype = torch.float32) -> list[float]:
    """Train with lincoln_fn, images and the layers up to the logits in a dtype."""
    train, test = load(True, dtype), load(False, dtype)
    lf.keep_freed_memory()  # of the steps, not of the files
    layers = lf.serial(lf.dense(500), lf.sigmoid(), lf.dense(10))
    if dtype is not torch.float32:
        layers = lf.in_dtype(layers, dtype, torch.float32)
    net, optimizer = lf.serial(layers, lf.log_softmax()), lf.optim.sgd(LR)
    step = lf.make_step(net, lf.losses.nll(reduction="sum"), optimizer, donate=True)
    state = lf.init_state(net, optimizer, lf.Key(0), train[0][:BATCH].float())
    batches = lf.data.batches(train, BATCH, key=state.key, epochs=EPOCHS)
    test_batches = lf.data.batches(test, TEST_BATCH)
    if compiled:
        step, net = lf.compile(step), lf.compile(net)
    accuracies = []
    for state, record in lf.train(step, state, batches):
        if measured_at(record.step):
            metrics = {"accuracy": lf.metrics.accuracy}
            accuracies.append(lf.evaluate(net, state.params, test_batches, metrics)["accuracy"])
    return accuracies


def run_ancestor() -> list[float]:
    """Train as the notebook's library does; give the accuracies."""
    torch.manual_seed(0)
    train, test = _loader(True), _loader(False)
    weights = ancestor.init(784, 500, 10)
    return _accuracies(
        lambda x, target: ancestor.step(weights, x, target, LR),
        lambda x: ancestor.forward(weights, x)[1],
        [train] * EPOCHS,
        test,
    )


def run_torch(
    tuned: bool, compiled: bool = False, dtype: torch.dtype = torch.float32
) -> list[float]:
    """Train with torch, tuned with images of a dtype; give the accuracies."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(784, 500), nn.Sigmoid(), nn.Linear(500, 10), nn.LogSoftmax(1))
    optimizer = torch.optim.SGD(net.parameters(), LR, fused=tuned)

    def loss_of(x: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(net(x), target, reduction="sum")

    loss = torch.compile(loss_of, dynamic=False) if compiled else loss_of
    predict = torch.compile(net, dynamic=False) if compiled else net

    def step(x: Tensor, target: Tensor) -> float:
        optimizer.zero_grad()
        value = loss(x, target)
        value.backward()
        optimizer.step()
        return value.item()

    if not tuned:
        train, test = _loader(True), _loader(False)
        return _accuracies(step, net, [train] * EPOCHS, test)
    images, test_images = load(True, dtype), load(False, dtype)
    lf.keep_freed_memory()  # as ours does
    test_batches = list(zip(*(part.split(TEST_BATCH) for part in test_images), strict=True))
    return _accuracies(step, predict, (_shuffled(images) for _ in range(EPOCHS)), test_batches)


def _accuracies(
    step: Callable[[Tensor, Tensor], float],
    predict: Callable[[Tensor], Tensor],
    epochs: Iterable[Iterable[Any]],
    test_batches: Iterable[Any],
) -> list[float]:
    batches = itertools.chain.from_iterable(epochs)
    accuracies = []
    for number, (x, target) in enumerate(batches, start=1):
        step(x.flatten(1), target)
        if measured_at(number):
            accuracies.append(_accuracy(predict, test_batches))
    return accuracies


def _shuffled(data: Images) -> Iterator[Images]:
    for rows in torch.randperm(len(data[0])).split(BATCH):
        yield data[0][rows], data[1][rows]


def _loader(train: bool) -> Any:
    steps = [
        torchvision.transforms.ToTensor(),
        torchvision.transforms.Normalize((MEAN,), (DEVIATION,)),
    ]
    transform = torchvision.transforms.Compose(steps)
    data = torchvision.datasets.MNIST(folder(), train=train, transform=transform)
    size = BATCH if train else TEST_BATCH
    return torch.utils.data.DataLoader(data, batch_size=size, shuffle=train)


def _accuracy(predict: Callable[[Tensor], Tensor], batches: Any) -> float:
    right = count = 0
    with torch.no_grad():
        for x, target in batches:
            right += int((predict(x.flatten(1)).argmax(1) == target).sum())
            count += len(target)
    return right / count


Program = Callable[[], list[float]]


def in_bfloat16(run: Program) -> list[float]:
    """Run a program whose products torch may make in bfloat16; parameters stay in float32."""
    torch.set_float32_matmul_precision("medium")
    return run()


def in_autocast(run: Program) -> list[float]:
    """Run a program whose products torch is to make in bfloat16; parameters stay in float32."""
    # Without its memory of weights that it has cast, for they are moved within.
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        return run()


_ours_compiled = partial(run_ours, compiled=True)
_ours_compiled_bfloat16 = partial(in_bfloat16, _ours_compiled)
_tuned = partial(run_torch, tuned=True)
_torch_compiled = partial(_tuned, compiled=True)
_ours_compiled_in_dtype = partial(_ours_compiled, dtype=torch.bfloat16)

AGAIN = ", again"
PROGRAMS: dict[str, Program] = {
    "ours eager": run_ours,
    "ours eager, bfloat16": partial(in_bfloat16, run_ours),
    "ours compiled": _ours_compiled,
    f"ours compiled{AGAIN}": _ours_compiled,
    "ours compiled, bfloat16": _ours_compiled_bfloat16,
    f"ours compiled, bfloat16{AGAIN}": _ours_compiled_bfloat16,
    "ours compiled, in_dtype": _ours_compiled_in_dtype,
    f"ours compiled, in_dtype{AGAIN}": _ours_compiled_in_dtype,
    "ancestor": run_ancestor,
    "torch eager": partial(run_torch, tuned=False),
    "torch tuned": _tuned,
    "torch tuned, bfloat16": partial(in_bfloat16, _tuned),
    "torch tuned, autocast": partial(in_autocast, partial(_tuned, dtype=torch.bfloat16)),
    "torch compiled": _torch_compiled,
    f"torch compiled{AGAIN}": _torch_compiled,
}


def measure(names: Sequence[str], rounds: int, threads: int) -> dict[str, list[dict[str, Any]]]:
    """Run programs in turn, each time in a new process.

    Args:
        names: of the programs; one that runs again comes after itself.
        rounds: how often each runs.
        threads: how many each may use.

    Returns:
        By name, for each round the seconds and the accuracies.
    """
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(rounds):
        # Nothing is found that another round or program compiled, but what it compiled itself.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            for name, runs in results.items():
                own = name.removesuffix(AGAIN).replace(" ", "-")  # Inductor knows no spaces
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.end_to_end", name, str(threads)],
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment(TORCHINDUCTOR_CACHE_DIR=str(Path(folder, own))),
                )
                runs.append(json.loads(done.stdout.splitlines()[-1]))
    return results


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Make the table: seconds, their spread, and the last accuracy."""
    lines = [f"{'program':31}{'seconds':>9}{'spread':>18}{'accuracy':>10}{'validations':>13}"]
    for name, runs in results.items():
        seconds = sorted(run["seconds"] for run in runs)
        spread = f"{seconds[0]:.2f} to {seconds[-1]:.2f}"
        accuracies = runs[0]["accuracies"]
        cells = f"{spread:>18}{accuracies[-1]:10.4f}{len(accuracies):13}"
        lines.append(f"{name:31}{statistics.median(seconds):9.2f}{cells}")
    return "\n".join(lines)


def main(name: str, threads: int) -> None:
    """Run one program, and print what it took as a line of JSON."""
    torch.set_num_threads(threads)
    # Torch imports parts of itself when they are first needed; imports are not timed.
    torch.nn.functional.relu(torch.empty(1, device="meta"))
    if "compiled" in name:
        importlib.import_module("torch._inductor.compile_fx")
    began = time.perf_counter()
    accuracies = PROGRAMS[name]()
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "accuracies": accuracies}))


if __name__ == "__main__":
    hold_to(int(sys.argv[2]), to_processors=True)
    main(sys.argv[1], int(sys.argv[2]))
