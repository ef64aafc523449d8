"""What holds of every combinator that loops: proven gradients, and walks, traces and compiled steps
that agree with `backward`."""

import pytest
import torch
from helpers import loops, normal
from helpers.compositions import CONTEXTS, check_compiled, check_trace, check_walks
from helpers.loops import ROWS as X
from helpers.loops import SEQUENCE as S
from helpers.stateful import STATEFUL

import lincoln_fn as lf

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
