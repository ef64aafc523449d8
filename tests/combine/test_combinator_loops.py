"""What holds of every combinator that loops: proven gradients, and walks, traces and compiled steps
that agree with `backward`."""

import math
from itertools import pairwise

import pytest
import torch
from helpers import assert_says, begin, loops, normal, same_bits, same_number
from helpers.compositions import (
    CONTEXTS,
    cast,
    check_compiled,
    check_trace,
    check_walks,
    forward_and_backward,
    peak_bytes,
    run,
)
from helpers.loops import FIELD, IN_TIME, STEP
from helpers.loops import ROWS as X
from helpers.loops import SEQUENCE as S
from helpers.stateful import STATEFUL

import lincoln_fn as lf
from lincoln_fn.combine.fixed_point import Solver

PAIRED = lf.serial(lf.parallel(lf.add(), lf.identity()), lf.gru_cell(5))
NORMED = lf.serial(
    lf.parallel(
        lf.identity(), lf.serial(lf.conv2d(2, 3, padding=1, weight_init=loops.SMALL), lf.tanh())
    ),
    lf.add(),
    lf.group_norm(1),
)
ADDED = lf.serial(lf.parallel(lf.add(), lf.dense(3, weight_init=loops.SMALL)), lf.add())
FIXED_POINTS = {
    "rnn cell": (lf.fixed_point(lf.rnn_cell(4), shape=(4,)), X),
    "plain iteration": (
        lf.fixed_point(lf.rnn_cell(4), shape=(4,), solver="iteration", max_steps=200), X),
    "own cell": (lf.fixed_point(loops.STEP, shape=(4,)), X),
    "images": (lf.fixed_point(NORMED, max_steps=80), normal(2, 2, 4, 3)),
    "two inputs": (lf.fixed_point(ADDED), (X, normal(5, 3, seed=1))),
}  # fmt: skip
OF_IMAGES = lf.serial(lf.concatenate(1), lf.conv2d(2, 3, padding=1))
OF_PAIRS = lf.serial(lf.select(1, 0), lf.parallel(lf.dense(3), lf.tanh()))
ODES = {
    "plain": (lf.ode(loops.FIELD, steps=3), X),
    "midpoint": (lf.ode(loops.FIELD, method="midpoint", steps=3), X),
    "euler backwards": (lf.ode(loops.IN_TIME, (2.0, 0.5), method="euler", steps=4, time_dim=-1), X),
    "in time": (lf.ode(loops.IN_TIME, (0.3, 1.1), steps=2, time_dim=1), X),
    "images": (lf.ode(OF_IMAGES, steps=2, time_dim=1), normal(3, 2, 4, 5)),
    "a pair": (lf.ode(OF_PAIRS, steps=2), (X, normal(5, 3, seed=1))),
}
OF_CHANNELS = (lf.conv2d(2, 3, padding=1), lf.group_norm(2)), (lf.relu(), loops.F)
REVERSIBLES = {
    "one block": (lf.reversible((loops.F, loops.H)), loops.HALVES),
    "three blocks": (loops.THREE_BLOCKS, loops.HALVES),
    "channels": (lf.reversible(*OF_CHANNELS, dim=1), normal(3, 4, 5, 3)),
    "a pair of other sizes": (
        lf.reversible((lf.dense(2), lf.dense(3))), (loops.HALVES[:, :2], loops.HALVES[:, 2:5])),
}  # fmt: skip
GAPS = torch.tensor(
    [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0], [1, 0, 1, 0, 1, 0]]
)
TOKENS = torch.tensor(
    [[4, 2, 0, 1, 0, 2], [3, 1, 5, 2, 1, 1], [1, 1, 0, 0, 3, 4], [2, 3, 1, 0, 5, 1]]
)
READER = lf.serial(lf.parallel(lf.embedding(6, 4), lf.identity()), lf.gru_cell(4))
# A cell that returns a pair beside the state, of which one is a pair.
OUTPUTS = lf.serial(
    loops.MIXED,
    loops.pair(loops.pair(lf.dense(2), loops.pair(lf.tanh(), lf.dense(3))), lf.identity()),
)
SCANS = {
    "lstm": (lf.scan(lf.lstm_cell(5)), S),
    "lstm with a state": (lf.scan(lf.lstm_cell(5)), (S, loops.PAIR)),
    "gru without a state": (lf.scan(lf.gru_cell(5)), (S, None)),
    "own cell": (lf.scan(loops.MIXED), (S, loops.STATE)),
    # Its backward pass draws each step's mask again.
    "checkpointed cell": (lf.scan(lf.checkpointed(loops.MIXED)), (S, loops.STATE)),
    "with an output": (lf.scan(loops.OUTPUT, has_output=True), (S, loops.STATE)),
    "with a tuple": (lf.scan(OUTPUTS, has_output=True), (S, loops.STATE)),
    "with a tuple and a mask": (
        lf.scan(OUTPUTS, has_output=True, reverse=True), (S, loops.STATE, GAPS.bool())),
    "reversed": (lf.scan(loops.MIXED, reverse=True), (S, loops.STATE)),
    "first axis": (lf.scan(loops.OUTPUT, dim=0, has_output=True), (S.transpose(0, 1), loops.STATE)),
    "tokens": (lf.scan(READER), (TOKENS[:3, :4], normal(3, 4))),
    "without a batch": (lf.scan(lf.rnn_cell(5), dim=0), S[0]),
    "two sequences": (lf.scan(PAIRED, sequences=2), (S, normal(4, 6, 3, seed=9), loops.STATE)),
}  # fmt: skip
MASKED = {
    "lstm": (lf.scan(lf.lstm_cell(5)), (S, loops.PAIR, loops.MASK)),
    "lstm without a state": (lf.scan(lf.lstm_cell(5)), (S, None, loops.MASK)),
    "reversed": (lf.scan(lf.gru_cell(5), reverse=True), (S, None, loops.MASK)),
    "own cell": (lf.scan(loops.OWN), (S, loops.STATE, loops.MASK)),
    "with an output": (lf.scan(loops.OWN_OUTPUT, has_output=True), (S, loops.STATE, loops.MASK)),
    "gaps": (lf.scan(loops.OWN), (S, loops.STATE, loops.MASK.flip(1) ^ loops.MASK)),
    "first axis": (lf.scan(loops.OWN, dim=0), (S.transpose(0, 1), loops.STATE, loops.MASK.mT)),
    "from the last axis": (lf.scan(loops.OWN, dim=-2), (S, loops.STATE, loops.MASK)),
    "tokens": (lf.scan(READER), (TOKENS, normal(4, 4), loops.MASK)),
    "without a batch": (lf.scan(lf.rnn_cell(5), dim=0), (S[0], None, loops.MASK[0])),
    "no mask": (lf.scan(loops.OWN), (S, loops.STATE, None)),
}
GROUPS = {
    "fixed_point": FIXED_POINTS, "ode": ODES, "reversible": REVERSIBLES, "scan": SCANS,
    "scan, masked": MASKED,
}  # fmt: skip
NETS = {f"{group}: {name}": row for group, rows in GROUPS.items() for name, row in rows.items()}
# A residual that is rebuilt also names its second branch, the identity.
REBUILT = {name: row for name, row in STATEFUL.items() if name != "residual"}
WALKED = NETS | REBUILT | {
    f"ode: {method}, {adjoint}": (
        lf.ode(loops.IN_TIME, (0.3, 1.1), method=method, steps=2, adjoint=adjoint, time_dim=1), X)
    for method in ("euler", "midpoint", "rk4") for adjoint in ("discrete", "continuous")} | {
    "encoder's block": (lf.transformer_encoder_block(2, 7), normal(2, 5, 6)),
    "decoder's block": (lf.transformer_decoder_block(2, 7), (normal(2, 5, 6), normal(2, 4, 3))),
}  # fmt: skip
PROVEN = NETS | STATEFUL


@pytest.mark.full(but=("two inputs", "in time", "channels", "with a state"))
@pytest.mark.parametrize("name", PROVEN)
def test_gradients_are_proven(name):
    layer, x = PROVEN[name]
    same = None if "masked" in name else False
    lf.testing.check_layer(layer, layer.init(lf.Key(1), x), x, predict_is_forward=same)


@pytest.mark.full(but=("ode-residual", "scan-residual"))
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(("layer", "x", "same"), [
    (lf.fixed_point(lf.rnn_cell(3)), X, None), (lf.ode(loops.FIELD, steps=2), X, False),
    (loops.THREE_BLOCKS, loops.HALVES, False), (lf.scan(lf.lstm_cell(3)), S, None),
], ids=["fixed_point", "ode", "reversible", "scan"])  # fmt: skip
def test_gradients_are_proven_within_other_compositions(layer, x, same, context):
    layer = CONTEXTS[context](layer)
    lf.testing.check_layer(layer, layer.init(lf.Key(1), x), x, predict_is_forward=same)


@pytest.mark.full(but=("scan: own",))
@pytest.mark.parametrize("name", WALKED)
def test_walks_have_the_bits_of_backward(name):
    check_walks(*WALKED[name])


TRACED = lf.serial(lf.dense(3), lf.tanh())


@pytest.mark.parametrize(("layer", "x", "uses"), [
    (lf.fixed_point(loops.STEP, shape=(4,)), X, 1),
    (lf.ode(TRACED, steps=2), X, 8),
    (lf.ode(TRACED, steps=2, adjoint="continuous"), X, 8),
    (loops.THREE_BLOCKS, loops.HALVES, 1),
    (lf.scan(lf.serial(lf.gru_cell(5), lf.tanh())), S, 6),
], ids=["fixed_point", "ode", "ode, continuous", "reversible", "scan"])  # fmt: skip
def test_every_use_of_every_layer_is_traced(layer, x, uses):
    check_trace(layer, x)
    params = layer.init(lf.Key(1), x)
    records = lf.inspect.trace(
        layer, params, x, lf.losses.mse(), torch.zeros_like(layer.predict(params, x))
    )
    paths = [record.path for record in records]
    assert {paths.count(path) for path in paths} == {uses}


SOLVED = {"max_steps": 9, "tol": 1e-2, "memory": 2, "shape": (4,)}
COMPILED = {
    "anderson": (lf.fixed_point(loops.STEP, solver="anderson", **SOLVED), X),
    "iteration": (lf.fixed_point(loops.STEP, solver="iteration", **SOLVED), X),
    "discrete": (lf.ode(loops.FIELD, method="midpoint", steps=2), X),
    "continuous": (lf.ode(loops.FIELD, method="midpoint", steps=2, adjoint="continuous"), X),
    "reversible": (lf.reversible((loops.F, loops.H), (lf.dense(3), loops.F)), loops.HALVES),
    "mixture": (lf.mixture_of_experts(lf.dense(2), (lf.dense(3), lf.swiglu(4)), top_k=1), X),
    "in dtype": (lf.in_dtype(loops.FIELD, torch.float64), X),
    "own cell": (lf.serial(lf.scan(loops.MIXED), lf.select(0)), (S, loops.STATE)),
    "lstm": SCANS["lstm"],
    "masked": (lf.serial(lf.scan(lf.gru_cell(5)), lf.select(0)), (S, loops.STATE, loops.MASK)),
}


@pytest.mark.full
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_step_gives_the_same(name):
    check_compiled(*COMPILED[name])


# Fixed points of a cell, and their gradient by implicit differentiation.


def expanding(norm):
    """Make a linear f whose plain iteration diverges: its eigenvalues are -norm and smaller."""
    matrix = torch.diag(-torch.linspace(0.1, norm, 4, dtype=torch.float64))
    return lambda z: z @ matrix + 1, 1 / (1 + torch.linspace(0.1, norm, 4, dtype=torch.float64))


def test_anderson_converges_where_plain_iteration_does_not():
    f, expected = expanding(1.5)
    z = torch.zeros(2, 4, dtype=torch.float64)
    given = Solver("anderson", 40, None, 5).solve(f, z, "here")
    assert same_number(given, expected.expand(2, 4))
    with pytest.raises(lf.LayerError, match=r"^here: expected to converge in 40 steps, got"):
        Solver("iteration", 40, None, 5).solve(f, z, "here")


@pytest.mark.parametrize(("method", "most"), [("anderson", 16), ("iteration", 70)])
def test_the_solver_ends_as_soon_as_it_has_converged(method, most):
    calls = []

    def f(z):
        calls.append(z)
        return torch.tanh(0.7 * z.flip(1) + torch.tensor([[1.0, -0.5], [0.3, 0.2]]))

    z = Solver(method, 100, 1e-5, 5).solve(f, torch.zeros(2, 2), "here")
    assert len(calls) < most
    assert same_number(f(z), z)


@pytest.mark.parametrize("solver", ["anderson", "iteration"])
def test_an_example_does_not_depend_on_the_others(solver):
    net = lf.fixed_point(lf.rnn_cell(4), shape=(4,), solver=solver, max_steps=200)
    params, z, cache, g = run(net, X, torch.float64)
    dx = net.input_grad(params, cache, g)
    # One example that is solved at once, beside others that are not.
    for i in range(5):
        alone, of_alone = net.forward(params, X.double()[i : i + 1])
        assert same_number(alone[0], z[i])
        given = net.input_grad(params, of_alone, g[i : i + 1])
        assert same_number(given[0], dx[i])


def test_a_cell_that_does_not_converge_is_no_error_where_each_step_is_taken():
    cell = lf.rnn_cell(4, weight_init=lf.initializers.normal(5.0))
    net = lf.fixed_point(cell, shape=(4,), tol=0)
    assert net.predict(net.init(lf.Key(0), X), X).isfinite().all()


def test_a_backward_pass_that_does_not_converge_says_so():
    # From z = 0, where tanh'(0) = 1, forward needs no step; backward meets J = -3.
    params = lf.layers.dense.Params(torch.diag(torch.tensor([-3.0, -3.0])), None)
    cell = lf.serial(lf.select(1), lf.dense(2, bias=False), lf.tanh())
    net = lf.fixed_point(cell, solver="iteration")
    x = torch.zeros(3, 2)
    z, cache = net.forward(((), params, ()), x)
    assert not z.any()
    with pytest.raises(lf.LayerError, match="backward: expected to converge in 40 steps"):
        net.backward(((), params, ()), cache, torch.ones(3, 2))


def test_the_cache_is_x_and_z():
    x, net = X, lf.fixed_point(STEP, shape=(4,))
    _, z, cache, _ = run(net, x)
    given, kept = cache.arrays
    assert given is x
    assert kept.shape == z.shape
    assert same_number(kept, z)


@pytest.mark.full(but=("[iteration]",))
@pytest.mark.parametrize("solver", ["anderson", "iteration"])
def test_memory_does_not_grow_with_the_steps_of_the_solver(solver):
    peaks = []
    for max_steps in (6, 30):
        net = lf.fixed_point(
            lf.rnn_cell(20), shape=(20,), solver=solver, max_steps=max_steps, tol=0, memory=2
        )
        params, _, _, g = run(net, normal(50, 3))
        peaks.append(peak_bytes(forward_and_backward, net, params, normal(50, 3), g))
    assert peaks[0] == peaks[1]


def test_one_mask_is_drawn_for_all_steps_and_predict_draws_none():
    net = lf.fixed_point(STEP, shape=(4,))
    params, z, cache, _ = run(net, X)
    again, of_cell = STEP.forward(params, (X, z))
    assert same_number(again, z)
    assert same_bits(net.advance(params, cache), STEP.advance(params, of_cell))
    predicted = net.predict(params, X)
    assert same_number(STEP.predict(params, (X, predicted)), predicted)
    assert not same_number(predicted, z)


@pytest.mark.full
@pytest.mark.usefixtures("uncompiled")
def test_a_compiled_step_raises_the_error_of_the_step_itself():
    cell = lf.rnn_cell(4, weight_init=lf.initializers.normal(5.0))
    step, state = begin(lf.fixed_point(cell, shape=(4,), max_steps=3), X, lf.losses.mse())
    batch = X, torch.zeros(5, 4)
    assert_says("expected to converge in 3 steps", lf.compile(step), state, batch)


# Neural ODEs: the exact gradient of the steps, and the continuous adjoint with flat memory.


def orders(errors):
    """Measure by which power of h an error falls, from errors at h and h / 2."""
    return [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_the_error_falls_by_the_order_of_the_method(method, order):
    # dz/dt = z M has z(t) = z(0) exp(t M); its gradient is g exp(t M)^T.
    matrix = 0.8 * normal(3, 3, seed=5).double()
    params = lf.layers.dense.Params(matrix, None)
    flow = torch.linalg.matrix_exp(0.9 * matrix)
    x, g = X.double(), normal(5, 3, seed=9).double()
    errors, of_gradient, of_continuous = [], [], []
    for steps in (8, 16, 32):
        for adjoint in ("discrete", "continuous"):
            net = lf.ode(
                lf.dense(3, bias=False), (0, 0.9), method=method, steps=steps, adjoint=adjoint
            )
            z, cache = net.forward(params, x)
            error = (net.input_grad(params, cache, g) - g @ flow.mT).norm().item()
            (of_gradient if adjoint == "discrete" else of_continuous).append(error)
        errors.append((z - x @ flow).norm().item())
    for measured in (errors, of_gradient, of_continuous):
        assert same_number(orders(measured), [order] * 2, terms=1.0, error=0.35)


@pytest.mark.full(but=("euler-1", "midpoint-2"))
@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_the_continuous_gradient_comes_closer_to_the_discrete_by_the_order(method, order):
    field = lf.serial(lf.concatenate(), lf.dense(4), lf.tanh(), lf.dense(3))
    errors = []
    for steps in (8, 16, 32, 64):
        discrete, continuous = (
            lf.ode(field, (0.2, 1.4), method=method, steps=steps, adjoint=adjoint, time_dim=-1)
            for adjoint in ("discrete", "continuous")
        )
        params, y, cache, g = run(discrete, X, torch.float64)
        own_y, kept = continuous.forward(params, X.double())
        assert same_bits(own_y, y)
        pairs = zip(
            lf.tree.leaves(continuous.backward(params, kept, g)),
            lf.tree.leaves(discrete.backward(params, cache, g)),
            strict=True,
        )
        errors.append(max(((a - b).norm() / b.norm()).item() for a, b in pairs))
    # At least, for some errors cancel.
    assert math.log2(errors[0] / errors[-1]) / 3 > order - 0.4
    assert errors[-1] < 10 * (1.2 / 64) ** order


def test_one_step_is_the_formula():
    net = lf.ode(IN_TIME, (0.5, 0.9), steps=1, time_dim=-1)
    params, y, _, _ = run(net, X, torch.float64)
    x, h = X.double(), 0.4

    def f(t, z):
        return IN_TIME.predict(params, (z, torch.full((5, 1), t, dtype=torch.float64)))

    k1 = f(0.5, x)
    k2 = f(0.7, x + h / 2 * k1)
    k3 = f(0.7, x + h / 2 * k2)
    k4 = f(0.9, x + h * k3)
    assert same_number(y, x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    middle = lf.ode(IN_TIME, (0.5, 0.9), method="midpoint", steps=1, time_dim=-1)
    assert same_number(middle.predict(params, x), x + h * k2)


def test_memory_of_the_continuous_adjoint_does_not_grow_with_the_steps():
    # Once with large activations, once with a large matrix.
    for x, width in ((normal(200, 10), 40), (normal(1, 10), 500)):
        peaks = {}
        for adjoint, steps in (("continuous", 4), ("continuous", 12), ("discrete", 12)):
            net = lf.ode(
                lf.serial(lf.dense(width), lf.tanh(), lf.dense(10)), steps=steps, adjoint=adjoint
            )
            params, _, _, g = run(net, x)
            peaks[adjoint, steps] = peak_bytes(forward_and_backward, net, params, x, g)
        assert peaks["continuous", 4] == peaks["continuous", 12]
        assert peaks["discrete", 12] > peaks["continuous", 12]
        if width == 500:
            assert peaks["discrete", 12] < 6 * params[0].weight.nbytes + 64 * 4 * 2000


@pytest.mark.parametrize("adjoint", ["discrete", "continuous"])
def test_one_mask_is_drawn_on_the_way_and_states_advance_once(adjoint):
    net = lf.ode(FIELD, steps=2, method="euler", adjoint=adjoint)
    params, y, cache, _ = run(net, X)
    k, _ = FIELD.forward(params, X)
    z = X + k / 2
    k, of_last = FIELD.forward(params, z)
    assert same_number(y, z + k / 2)
    assert same_bits(net.advance(params, cache), FIELD.advance(params, of_last))


def test_float32_keeps_its_dtype():
    net = lf.ode(IN_TIME, time_dim=-1, adjoint="continuous")
    params, y, cache, g = run(net, X)
    exact, kept = net.forward(cast(params), X.double())
    assert same_number(y, exact, dtype=torch.float32)
    assert y.dtype is net.input_grad(params, cache, g).dtype is torch.float32
    assert kept.arrays.dtype is torch.float64
