"""The benchmarks: fair, and they measure what they say. The times themselves are not tested."""

import importlib
import io
import json
import math

import pytest
import torch
from helpers.compare import same_number
from helpers.small_benchmarks import SMALL

import lincoln_fn as lf
from benchmarks import ancestor, growth, memory, nanogpt, optimizers, report, runner, worker
from benchmarks import per_example as benchmark
from benchmarks.peers import AbsentError, Way, floor
from benchmarks.runner import Row
from benchmarks.workloads import LEARNING_RATES, WORKLOADS


@pytest.fixture(autouse=True)
def denormals():
    """A worker flushes denormals, as processes that train do; the tests that follow need them."""
    yield
    torch.set_flush_denormal(False)


def losses(peer, workload, optimizer, steps=12, ways=None):
    """Give the losses of each of a peer's ways, or of the first; skip where it cannot take part."""
    try:
        module = importlib.import_module(f"benchmarks.peers.{peer}")
        made = [make() for make in module.ways(workload, optimizer)[:ways]]
    except AbsentError as error:
        pytest.skip(str(error))
    return [[way.step() for _ in range(steps)] for way in made]


def test_every_workload_has_a_small_one_of_the_same_layers():
    assert SMALL.keys() == WORKLOADS.keys()
    for name, small in SMALL.items():
        kinds, of_small = ([type(part) for part in w.layers] for w in (WORKLOADS[name], small))
        if not name.startswith("gpt"):  # whose depth is smaller
            assert kinds == of_small


@pytest.mark.full(but=("mlp-small",))
@pytest.mark.parametrize("optimizer", LEARNING_RATES)
@pytest.mark.parametrize("workload", SMALL.values(), ids=lambda workload: workload.name)
def test_losses_of_ours_and_torch_agree(workload, optimizer):
    (expected,) = losses("torch_eager", workload, optimizer)
    assert len(set(expected)) == len(expected)
    for peer in ("ours", "torch_tuned"):
        for of_way in losses(peer, workload, optimizer):
            assert same_number(of_way, expected, dtype=torch.float32)


# One workload for each kind of layer, and each optimizer once.
OTHERS = [
    ("logistic", "momentum"),
    ("logistic", "adamw"),
    ("mlp-wide", "sgd"),
    ("lenet-8", "sgd"),
    ("char-lstm", "sgd"),
    ("gpt-pico", "sgd"),
]


@pytest.mark.full
@pytest.mark.parametrize(("workload", "optimizer"), OTHERS)
@pytest.mark.parametrize("peer", ["jax", "thinc"])
def test_losses_of_other_libraries_agree(peer, workload, optimizer):
    (expected,) = losses("torch_eager", SMALL[workload], optimizer)
    for of_way in losses(peer, SMALL[workload], optimizer, ways=1):
        assert same_number(of_way, expected, dtype=torch.float32)


class Pretended:
    """A peer's process that says what it is told to."""

    peer = "jax"

    def __init__(self, losses, **ready):
        self.losses = losses
        self.ready = ready or {"what": "jax 1", "setup_seconds": 1.0, "first_loss": losses[0]}

    def take(self, steps):
        return {"seconds": 1.0, "losses": self.losses[1 : 1 + steps]}


def test_a_row_with_wrong_losses_is_refused():
    right = [2.0 - i / 100 for i in range(runner.CHECKED_STEPS)]
    row, seen = runner.checked(Pretended(right), right)
    assert row.why is None
    assert seen == right
    near = [loss * (1 + 0.9e-3) for loss in right]
    assert runner.checked(Pretended(near), right)[0].why is None
    for wrong in (right[19] * (1 + 1.1e-3), math.nan):
        row, _ = runner.checked(Pretended([*right[:19], wrong]), right)
        assert row.why.startswith("refused: its loss at step 20 is")
        assert not row.seconds


def test_a_row_that_cannot_take_part_says_why():
    row, _ = runner.checked(Pretended([1.0], absent="JAX is not installed"), [1.0])
    assert row == Row("jax", why="JAX is not installed")


@pytest.mark.full
def test_processes_take_turns():
    said = []
    rows = runner.measure(
        "logistic",
        "sgd",
        ["torch_eager", "floor", "nothing_of_the_kind"],
        rounds=3,
        seconds=0.01,
        threads=1,
        patience=60,
        say=said.append,
    )
    assert [row.peer for row in rows] == ["torch_eager", "floor", "nothing_of_the_kind"]
    assert [len(row.seconds) for row in rows] == [3, 3, 0]
    assert all(0 < seconds < 1 for row in rows for seconds in row.seconds)
    assert "No module named" in rows[2].why
    assert said[-1] == "logistic: 3 rounds of 2 peers"


def test_a_worker_answers_in_lines():
    answers = io.StringIO()
    worker.serve("torch_eager", SMALL["mlp"], "sgd", [json.dumps({"steps": 3})], answers)
    ready, taken = map(json.loads, answers.getvalue().splitlines())
    (expected,) = losses("torch_eager", SMALL["mlp"], "sgd", steps=4)
    assert [ready["first_loss"], *taken["losses"]] == expected
    assert taken["seconds"] > 0


def test_the_fastest_way_is_chosen_and_begins_anew():
    def make(name, slow):
        count = iter(range(10**6))

        def step():
            for _ in range(slow):
                pass
            return float(next(count))

        return Way(step, name)

    step, what, first, seconds = worker.set_up(
        [lambda: make("slow", 200_000), lambda: make("fast", 0)], trial=0.01
    )
    assert (what, first, step()) == ("fast", 0.0, 1.0)
    assert seconds > 0


def rows(**medians):
    return [Row(peer, "1.0", 0.5, (seconds,) * 4) for peer, seconds in medians.items()]


def test_the_table_has_the_ratios():
    results = {"mlp": rows(ours=4e-3, ours_compiled=3e-3, torch_eager=6e-3, jax=5e-3, floor=2e-3)}
    results["mlp"].append(Row("thinc", why="refused: its loss"))
    head, line = report.table(results).splitlines()
    assert head.split()[:5] == ["workload", "ours", "eager", "ours", "compiled"]
    expected = "mlp  4.00 ms  3.00 ms  0.50 ±0.00  0.60 ±0.00  -  0.60 ±0.00  1.50 ±0.00"
    assert line.split() == expected.split()
    assert "refused: its loss" in report.details(results)
    data = report.as_data(results)["workloads"]["mlp"]
    assert (data["ours"], data["best_peer"]) == ("ours_compiled", "jax")
    assert data["ratios"]["floor"] == {"median": 1.5, "lower": 1.5, "upper": 1.5}
    assert json.loads(json.dumps(data)) == data


def test_a_ratio_is_taken_within_each_round():
    one, other = Row("ours", seconds=(1.0, 10.0, 3.0)), Row("jax", seconds=(2.0, 20.0, 12.0))
    assert runner.ratio(one, other) == (0.5, 0.25, 0.5)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.5])
def test_the_exponent_of_known_data(power):
    sizes = [10, 20, 40, 80, 160]
    assert same_number(growth.exponent(sizes, [3 * size**power for size in sizes]), power)
    # What small sizes cost beside does not count.
    costs = [7.0, 7.0] + [size**power for size in sizes[2:]]
    assert same_number(growth.exponent(sizes, costs), power)


@pytest.mark.full
def test_the_memory_counter_counts_a_known_program():
    def make():
        a = torch.zeros(1000)

        def step():
            b = a + 1  # a, b
            c = b * 2  # a, b, c
            del b
            d = c.exp().view(10, 100)  # a, c, d; a view takes nothing
            e = d[0] + d[1]  # and 100 numbers
            e += 1
            return e.max().item()

        return Way(step, "")

    tensors, allocated = memory.peaks(make)
    assert tensors == 4 * 3100 + 4
    assert tensors <= allocated <= tensors + 64  # numbers such as the 1


@pytest.mark.full
def test_the_memory_counter_sees_what_autograd_keeps_and_lets_go():
    def make():
        w = torch.zeros(1000, requires_grad=True)

        def step():
            w.grad = None
            y = w.exp().exp().exp()  # w, and three that are kept
            y.backward(torch.ones(()).expand(1000))  # and two at once of the gradients
            return 0.0

        return Way(step, "")

    tensors, allocated = memory.peaks(make)
    assert 4 * 5000 <= tensors <= 4 * 6000 + 64
    assert 4 * 5000 <= allocated <= 4 * 6000 + 64


def test_the_floor_has_every_product_of_a_step():
    assert len(floor.products(SMALL["mlp"])) == 5  # no dx of the first layer
    assert len(floor.products(SMALL["lenet-8"])) == 2 + 2 * 3
    # Two dense layers around the scan with three each, the scan's two a step and its weight's.
    assert len(floor.products(SMALL["char-lstm"])) == 2 * 3 + 2 * 6 + 1
    assert len(floor.products(SMALL["gpt-pico"])) == 2 * (4 * 3 + 6) + 3


def test_the_ancestor_takes_the_same_step():
    x, target = lf.keys.normal(lf.Key(0), (6, 5)), torch.tensor([0, 1, 2, 2, 1, 0])
    net = lf.serial(lf.dense(4), lf.sigmoid(), lf.dense(3), lf.log_softmax())
    optimizer = lf.optim.sgd(0.1)
    step = lf.make_step(net, lf.losses.nll(reduction="sum"), optimizer)
    state = lf.init_state(net, optimizer, lf.Key(1), x)
    weights = tuple(leaf.clone() for leaf in lf.tree.leaves(state.params))
    for _ in range(3):
        state, value = step(state, (x, target))
        assert same_number(
            ancestor.step(weights, x, target, 0.1), value.item(), dtype=torch.float32
        )
    assert same_number(lf.tree.leaves(state.params), list(weights))


# The benchmark of single examples: all programs compute the same. Times are not tested.


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


# The benchmarks of nanoGPT and of optimizers: ours and torch take the same steps.


# A large rate, so that a rate or a decay that is not the other's shows at once.
OF_NANOGPT = {"LAYERS": 2, "WIDTH": 16, "BATCH_SIZE": 3, "LENGTH": 8, "LR": 0.02, "WARMUP": 4}


@pytest.fixture
def codes(monkeypatch):
    """Make the network small, and give a text."""
    for name, value in OF_NANOGPT.items():
        monkeypatch.setattr(nanogpt.example, name, value)
    drawn = torch.arange(200) ** 2 % 11
    return nanogpt.characters.Text(drawn[:150], drawn[150:], "abcdefghijk")


def test_ours_and_torch_learn_the_same_as_nanogpt(codes):
    steps = 12
    known = nanogpt.programs(len(codes.alphabet), lf.Key(0), steps)
    ours, theirs = known["ours"](), known["torch"]()
    for x, target in nanogpt.windows(codes, lf.Key(1), steps):
        assert same_number(ours.take(x, target), theirs.take(x, target), dtype=torch.float32)
    held_out = ours.held_out(codes.held_out), theirs.held_out(codes.held_out)
    assert same_number(*held_out, dtype=torch.float32)


OF_OPTIMIZERS = {"LAYERS": 1, "WIDTH": 8, "HEADS": 2, "BATCH_SIZE": 3, "LENGTH": 8}
# q, k and v are one matrix in torch's network: Adafactor's rows and Muon's directions differ. ASGD
# takes the rate of the step before in torch.
DIFFERENT = {"adafactor", "muon", "asgd"}


@pytest.fixture
def text(monkeypatch, tmp_path):
    """Make the network small, and give a file of text."""
    for name, value in OF_OPTIMIZERS.items():
        monkeypatch.setattr(optimizers.example, name, value)
    monkeypatch.setattr(optimizers, "EVERY", 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    file = tmp_path / "text.txt"
    file.write_text("To be, or not to be: that is the question. " * 12)
    return file


def trained(name, library, text):
    run = optimizers.Run(name, library, 0.01, 4, 0)
    return optimizers.train(run, optimizers.characters.load_text(text))


def test_every_optimizer_takes_part():
    made = {name for name in lf.optim.__all__ if name.islower()}
    made -= {name for name in made if name.endswith(("_params", "_state")) or "clip" in name}
    stages = {"accumulate", "chain", "ema", "lookahead", "plateau_step", "reduce_on_plateau", "sam"}
    others = {"by_path", "lbfgs", "sharded", "weight_decay"}
    assert made - stages - others == {*optimizers.CONTENDERS} - {"kfac"}


@pytest.mark.full
@pytest.mark.parametrize("name", optimizers.CONTENDERS)
def test_optimizers_of_ours_and_torch_learn_the_same(name, text):
    ours = trained(name, "ours", text)
    assert [step for step, _ in ours["curve"]] == [2, 4]
    assert not ours["problem"]
    if optimizers.CONTENDERS[name].torch is not None and name not in DIFFERENT:
        theirs = trained(name, "torch", text)
        assert same_number(ours["held_out"], theirs["held_out"], error=1e-4)
