"""The benchmark of single examples: all programs compute the same. Times are not tested."""

import pytest
import torch
from helpers.compare import same_number
from helpers.small_benchmarks import SMALL

from benchmarks import per_example as benchmark
from benchmarks.peers import AbsentError


@pytest.mark.parametrize("name", benchmark.SUPPORTED)
def test_norms_and_clipped_sums_are_those_of_torch(name):
    workload = SMALL[name]
    net, loss, (x, target) = benchmark._torch_parts(workload)
    norms, total = [], None
    for n in range(len(x)):
        net.zero_grad()
        loss(net(x[n : n + 1]), target[n : n + 1]).backward()
        grads = [p.grad.clone() for p in net.parameters()]
        norms.append(sum(grad.square().sum() for grad in grads).sqrt())
        clipped = [grad * min(1, benchmark.MAX_NORM / norms[-1]) for grad in grads]
        total = clipped if total is None else [a + b for a, b in zip(total, clipped, strict=True)]
    assert same_number(benchmark.our_norms(workload)(), torch.stack(norms))
    found = benchmark._norm_of(benchmark.our_clipped(workload)())
    assert same_number(found, benchmark._norm_of(total), dtype=torch.float32)


# The other libraries warn of hooks, and that a module is extended twice.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", benchmark.SUPPORTED)
def test_programs_that_take_part_agree(name):
    said = []
    made = benchmark.programs(SMALL[name], said.append)
    assert {"norms, ours", "clipped, ours"} <= set(made)
    assert len(made) + len(said) == len(benchmark.NORMS) + len(benchmark.CLIPPED)


def test_a_program_that_computes_something_else_is_refused(monkeypatch):
    wrong = {"ours": lambda workload: lambda: torch.ones(2), "x": lambda w: lambda: torch.zeros(2)}
    monkeypatch.setattr(benchmark, "NORMS", wrong)
    with pytest.raises(SystemExit, match=r"mlp, norms: x has 0\.0, ours 1\.4"):
        benchmark.programs(SMALL["mlp"], print)


def test_a_program_that_is_missing_says_why(monkeypatch):
    def absent(workload):
        raise AbsentError("opacus is not installed")

    said = []
    ours = {"ours": benchmark.our_norms}
    monkeypatch.setattr(benchmark, "NORMS", {**ours, "opacus": absent})
    monkeypatch.setattr(benchmark, "CLIPPED", {"ours": benchmark.our_clipped})
    assert set(benchmark.programs(SMALL["mlp"], said.append)) == {"norms, ours", "clipped, ours"}
    assert said == ["mlp, norms: opacus is not installed"]
