"""Second derivatives beside torch.func, BackPACK and curvlinops: `--curvature`.

All programs have the same weights and the same batch, and run in turn, in one process. Each returns
numbers that are compared with ours before anything is timed: a Hessian's or a Gauss-Newton matrix's
product with a vector, the diagonal of the Gauss-Newton matrix, or the Kronecker factors.

The time is that of this process on the processor: another process's load does not count.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp
from torch.nn.functional import cross_entropy

import lincoln_fn as lf
from benchmarks.peers import AbsentError, _torch, ours
from benchmarks.workloads import WORKLOADS, Workload
from lincoln_fn import curvature

DEFAULT = ("mlp", "lenet-8", "lenet-128")
TOLERANCE = 1e-3
Program: TypeAlias = Callable[[], list[Tensor]]


class _Parts:
    """The same network, batch and vector, for us and for torch."""

    def __init__(self, workload: Workload) -> None:
        self.net = ours.network(workload)
        self.params = ours.start(workload, self.net, lf.optim.sgd(0.1)).params
        self.x, self.target = ours.batches(workload)[0]
        self.loss = lf.losses.softmax_cross_entropy()
        leaves = lf.tree.leaves(self.params)
        numbers = iter(range(len(leaves)))
        self.v = lf.tree.map(
            lambda p: lf.keys.normal(lf.Key(next(numbers)), tuple(p.shape)), self.params
        )
        self.module = _torch.module(workload)
        named = dict(self.module.named_parameters())
        self.weights = {name: p.detach() for name, p in named.items()}
        along = (each.contiguous() for each in self.listed(self.v))
        self.along = dict(zip(named, along, strict=True))

    def given(self) -> tuple[Any, ...]:
        """List the first arguments of our functions."""
        return self.net, self.params, self.x, self.loss, self.target

    def listed(self, tree: Any) -> list[Tensor]:
        """List our leaves as torch has them, which applies a dense layer's weight from the left."""
        return [leaf.mT if leaf.ndim == 2 else leaf for leaf in lf.tree.leaves(tree)]

    def predict(self, weights: dict[str, Tensor]) -> Tensor:
        """Run torch's module."""
        prediction: Tensor = functional_call(self.module, weights, self.x)
        return prediction

    def value(self, weights: dict[str, Tensor]) -> Tensor:
        """Compute torch's loss."""
        return cross_entropy(self.predict(weights), self.target)


def our_hessian(p: _Parts) -> Program:
    """Make our H v."""
    return lambda: p.listed(curvature.hessian_vector_product(*p.given(), p.v))


def forward_over_reverse(p: _Parts) -> Program:
    """Make torch.func's H v, the jvp of grad."""
    return lambda: list(jvp(grad(p.value), (p.weights,), (p.along,))[1].values())


def reverse_over_reverse(p: _Parts) -> Program:
    """Make torch.func's H v, the vjp of grad."""
    return lambda: list(vjp(grad(p.value), p.weights)[1](p.along)[0].values())


def our_gauss_newton(p: _Parts) -> Program:
    """Make our G v."""
    return lambda: p.listed(curvature.gauss_newton_vector_product(*p.given(), p.v))


def torch_gauss_newton(p: _Parts) -> Program:
    """Make torch.func's G v: a jvp, the loss's Hessian, and a vjp."""

    def run() -> list[Tensor]:
        y, along = jvp(p.predict, (p.weights,), (p.along,))
        of_loss = grad(lambda y: cross_entropy(y, p.target))
        curved = jvp(of_loss, (y,), (along,))[1]
        return list(vjp(p.predict, p.weights)[1](curved)[0].values())

    return run


def our_diagonal(p: _Parts) -> Program:
    """Make our diagonal."""
    return lambda: p.listed(curvature.ggn_diagonal(*p.given()))


def backpack_diagonal(p: _Parts) -> Program:
    """Make BackPACK's diagonal, DiagGGNExact."""
    try:
        from backpack import backpack, extend
        from backpack.extensions import DiagGGNExact
    except ImportError as error:
        raise AbsentError("BackPACK is not installed") from error
    net, loss = extend(p.module), extend(nn.CrossEntropyLoss())

    def run() -> list[Tensor]:
        net.zero_grad()
        with backpack(DiagGGNExact()):
            loss(net(p.x), p.target).backward()
        return [each.diag_ggn_exact for each in net.parameters()]

    return run


def our_factors(p: _Parts) -> Program:
    """Make our Kronecker factors."""

    def run() -> list[Tensor]:
        factors = curvature.kfac_factors(*p.given())
        return [each for path in sorted(factors) for each in (factors[path].a, factors[path].b)]

    return run


def curvlinops_factors(p: _Parts) -> Program:
    """Make curvlinops' Kronecker factors, of type 2 and expanded."""
    try:
        from curvlinops import KFACLinearOperator
    except ImportError as error:
        raise AbsentError("curvlinops is not installed") from error
    parameters, data = list(p.module.parameters()), [(p.x, p.target)]

    def run() -> list[Tensor]:
        operator = KFACLinearOperator(
            p.module, nn.CrossEntropyLoss(), parameters, data, fisher_type="type-2",
            separate_weight_and_bias=False, check_deterministic=False,
        )  # fmt: skip
        operator.compute_kronecker_factors()
        state = operator.state_dict()
        inputs, outputs = state["input_covariances"], state["gradient_covariances"]
        return [each for path in sorted(inputs) for each in (inputs[path], outputs[path])]

    return run


# What is computed, by whom; ours comes first.
ROWS: Mapping[str, Mapping[str, Callable[[_Parts], Program]]] = {
    "Hessian product": {
        "ours": our_hessian,
        "torch.func jvp(grad)": forward_over_reverse,
        "torch.func vjp(grad)": reverse_over_reverse,
    },
    "Gauss-Newton product": {"ours": our_gauss_newton, "torch.func": torch_gauss_newton},
    "diagonal": {"ours": our_diagonal, "BackPACK": backpack_diagonal},
    "K-FAC factors": {"ours": our_factors, "curvlinops": curvlinops_factors},
}


def programs(workload: Workload, what: str, say: Callable[[str], None]) -> dict[str, Program]:
    """Make the programs of a row that can take part, and check that they compute the same."""
    made: dict[str, Program] = {}
    expected: list[Tensor] = []
    for name, make in ROWS[what].items():
        try:
            program = make(_Parts(workload))
        except AbsentError as error:
            say(f"{workload.name}, {what}: {error}")
            continue
        found = [leaf.detach() for leaf in program()]
        expected = expected or found
        for ours_leaf, leaf in zip(expected, found, strict=True):
            if (leaf - ours_leaf).norm() > TOLERANCE * ours_leaf.norm():
                raise SystemExit(f"{workload.name}, {what}: {name} and ours differ")
        made[name] = program
    return made


def measure(
    names: Sequence[str], rounds: int, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Time the programs in turn.

    Args:
        names: the workloads.
        rounds: how many.
        say: told why a program is missing.

    Returns:
        By workload and row, the least time of each program in seconds.
    """
    lf.keep_freed_memory()
    results: dict[str, dict[str, float]] = {}
    with warnings.catch_warnings():
        # torch's own warning, at the first jvp of a process.
        warnings.simplefilter("ignore", DeprecationWarning)
        # BackPACK's hooks, for the images need no gradient.
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        for name in names:
            for what in ROWS:
                made = programs(WORKLOADS[name], what, say)
                times: dict[str, list[float]] = {program: [] for program in made}
                for _ in range(rounds):
                    for program, run in made.items():
                        times[program].append(_time(run))
                results[f"{name}, {what}"] = {each: min(of) for each, of in times.items()}
    return results


def _time(run: Program) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Make the table: ours in milliseconds, and as a multiple of each peer's time."""
    lines = [f"{'':34}{'ours':>10}   ours / peer's time"]
    for name, of in results.items():
        own = of["ours"]
        peers = [f"{own / of[peer]:.2f} of {peer}" for peer in of if peer != "ours"]
        lines.append(f"{name:34}{own * 1e3:7.1f} ms   {', '.join(peers)}")
    return "\n".join(lines)
