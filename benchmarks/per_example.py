"""Quantities of single examples, as multiples of torch's own step: `--per-example`.

The unit is torch's forward and backward, which gives the gradient of the whole batch and nothing of
single examples. All programs have the same weights and the same batch, and run in turn, in one
process. Each returns numbers that are compared with ours before anything is timed: the norms of the
examples' gradients, or the sum of the gradients clipped to norm 1.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

import lincoln_fn as lf
from benchmarks.peers import AbsentError, _torch, ours
from benchmarks.workloads import WORKLOADS, Lstm, Workload
from lincoln_fn import per_example

SUPPORTED = ("mlp", "lenet-128", "char-lstm")
CAPTION = "Time as a multiple of torch's forward and backward: the median of the rounds' ratios"
MAX_NORM = 1.0
TOLERANCE = 1e-3

# Computes norms, or the leaves of a clipped sum in torch's order and layout.
Program: TypeAlias = Callable[[], Any]


def torch_step(workload: Workload) -> Program:
    """Make torch's ordinary forward and backward."""
    net, loss, (x, target) = _torch_parts(workload)

    def run() -> None:
        net.zero_grad()
        loss(net(x), target).backward()

    return run


def our_norms(workload: Workload) -> Program:
    """Make our squared norms: a forward and one walk back."""
    net, params, forward_back = _our_parts(workload)

    def run() -> Tensor:
        cache, g = forward_back()
        return per_example.squared_norms(net, params, cache, g).sqrt()

    return run


def our_clipped(workload: Workload) -> Program:
    """Make our clipped sum: the same walk, and a weighted sum."""
    net, params, forward_back = _our_parts(workload)
    gradient, key = per_example.clipped(MAX_NORM, reduction="sum"), lf.Key(0)

    def run() -> list[Tensor]:
        cache, g = forward_back()
        return lf.tree.leaves(gradient.compute(net, params, cache, g, (), key)[0])

    return run


def _our_parts(
    workload: Workload,
) -> tuple[lf.Layer, Any, Callable[[], tuple[Any, Tensor]]]:  # Any: params and a cache
    net = lf.fast(ours.network(workload))
    params = ours.start(workload, net, lf.optim.sgd(0.1)).params
    loss, (x, target) = lf.losses.softmax_cross_entropy(reduction="sum"), ours.batches(workload)[0]

    def forward_back() -> tuple[Any, Tensor]:
        prediction, cache = net.forward(params, x)
        return cache, loss.backward(loss.forward(prediction, target)[1])

    return net, params, forward_back


def opacus_norms(workload: Workload) -> Program:
    """Make opacus's norms by ghost clipping."""
    module, net_loss = _opacus_parts(workload)

    def run() -> Tensor:
        module.zero_grad()
        net_loss().sum().backward()
        norms: Tensor = module.get_norm_sample()
        return norms

    return run


def opacus_clipped(workload: Workload) -> Program:
    """Make opacus's clipped sum by ghost clipping: two walks back."""
    module, net_loss = _opacus_parts(workload)

    def run() -> list[Tensor]:
        module.zero_grad()
        losses = net_loss()
        losses.sum().backward(retain_graph=True)
        module.zero_grad()
        weights = module.get_clipping_coef()
        module.disable_hooks()
        (weights * losses).sum().backward()
        module.enable_hooks()
        return [p.grad for p in module.parameters()]

    return run


# Any: opacus has no types.
def _opacus_parts(workload: Workload) -> tuple[Any, Callable[[], Tensor]]:
    try:
        from opacus.grad_sample import GradSampleModuleFastGradientClipping
        from opacus.layers import DPLSTM
    except ImportError as error:
        raise AbsentError("opacus is not installed") from error
    net, _, (x, target) = _torch_parts(workload)
    for i, part in enumerate(net):
        if isinstance(part, nn.LSTM):
            private = DPLSTM(part.input_size, part.hidden_size, batch_first=True)
            private.load_state_dict(part.state_dict())
            net[i] = _Outputs(private)
    module = GradSampleModuleFastGradientClipping(
        net, max_grad_norm=MAX_NORM, use_ghost_clipping=True, loss_reduction="sum"
    )

    def losses() -> Tensor:
        each = nn.functional.cross_entropy(module(x), target, reduction="none")
        return each.flatten(1).sum(1) if each.ndim > 1 else each

    return module, losses


class _Outputs(nn.Module):
    """A recurrent layer of which only the outputs count."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Run over a sequence."""
        outputs: Tensor = self.layer(x)[0]
        return outputs


def backpack_norms(workload: Workload) -> Program:
    """Make BackPACK's squared norms, BatchL2Grad."""
    try:
        from backpack import backpack, extend
        from backpack.extensions import BatchL2Grad
    except ImportError as error:
        raise AbsentError("BackPACK is not installed") from error
    if any(isinstance(layer, Lstm) for layer in workload.layers):
        raise AbsentError("BackPACK has no norms of this LSTM")
    net, _, (x, target) = _torch_parts(workload)
    net, loss = extend(net), extend(nn.CrossEntropyLoss(reduction="sum"))

    def run() -> Tensor:
        net.zero_grad()
        with backpack(BatchL2Grad()):
            loss(net(x), target).backward()
        return torch.stack([p.batch_l2 for p in net.parameters()]).sum(0).sqrt()

    return run


def _torch_parts(
    workload: Workload,
) -> tuple[nn.Sequential, Callable[[Tensor, Tensor], Tensor], tuple[Tensor, Tensor]]:
    net = _torch.module(workload)
    if workload.codes:
        net.append(_ClassesSecond())
    loss = partial(nn.functional.cross_entropy, reduction="sum")
    return net, loss, _torch.batches(workload)[0]


class _ClassesSecond(nn.Module):
    """Move the classes to axis 1, where the loss has them."""

    def forward(self, x: Tensor) -> Tensor:
        """Exchange the last two axes."""
        return x.transpose(1, 2)


NORMS: Mapping[str, Callable[[Workload], Program]] = {
    "ours": our_norms,
    "BackPACK": backpack_norms,
    "opacus": opacus_norms,
}
CLIPPED: Mapping[str, Callable[[Workload], Program]] = {
    "ours": our_clipped,
    "opacus": opacus_clipped,
}


def programs(workload: Workload, say: Callable[[str], None]) -> dict[str, Program]:
    """Make all programs that can take part, and check that they compute the same."""
    made: dict[str, Program] = {}
    for what, makers in (("norms", NORMS), ("clipped", CLIPPED)):
        expected = None
        for name, make in makers.items():
            try:
                program = make(workload)
                found = _norm_of(program())
            except AbsentError as error:
                say(f"{workload.name}, {what}: {error}")
                continue
            if expected is None:
                expected = found
            elif abs(found - expected) > TOLERANCE * expected:
                raise SystemExit(f"{workload.name}, {what}: {name} has {found}, ours {expected}")
            made[f"{what}, {name}"] = program
    return made


def _norm_of(computed: Tensor | list[Tensor]) -> float:
    tensors = [computed] if isinstance(computed, Tensor) else computed
    return torch.stack([t.detach().double().square().sum() for t in tensors]).sum().sqrt().item()


def measure(
    names: Sequence[str], rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Time the programs in turn.

    Args:
        names: the workloads.
        rounds: how many.
        seconds: about as long is a program's turn.
        say: told why a program is missing.

    Returns:
        By workload and program, the median over the rounds of its time as a multiple of torch's
        forward and backward in the same round.
    """
    lf.keep_freed_memory()
    with warnings.catch_warnings():
        # BackPACK's hooks, for the images need no gradient.
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        return {name: _ratios(WORKLOADS[name], rounds, seconds, say) for name in names}


def _ratios(
    workload: Workload, rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[str, float]:
    """Time the programs of one workload in turn."""
    unit, made = torch_step(workload), programs(workload, say)
    count = max(1, round(seconds / _time(unit, 3)))
    ratios: dict[str, list[float]] = {program: [] for program in made}
    for _ in range(rounds):
        base = _time(unit, count)
        for program, run in made.items():
            ratios[program].append(_time(run, count) / base)
    return {program: statistics.median(of) for program, of in ratios.items()}


def _time(run: Program, count: int) -> float:
    run()
    began = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - began) / count


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Make the table: a line for each workload, a column for each program."""
    columns = [f"norms, {name}" for name in NORMS] + [f"clipped, {name}" for name in CLIPPED]
    lines = [f"{'workload':12}" + "".join(f"{column:>18}" for column in columns)]
    for name, of in results.items():
        cells = [f"{of[column]:.2f}" if column in of else "-" for column in columns]
        lines.append(f"{name:12}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)
