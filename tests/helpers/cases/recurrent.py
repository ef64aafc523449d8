"""Recurrent layers: kinds, layers, directions, states and masks."""

import torch
from torch import nn
from torch.func import functional_call

import lincoln_fn as lf
from helpers.cases.case import Case, normal, torch_names

SEQUENCE = normal(2, 5, 3)
MASK = torch.tensor([[True, True, True, False, False], [True, True, True, True, True]])


def states(count, hidden=4, layers=1, seed=7):
    drawn = tuple(normal(layers, 2, hidden, seed=seed + i) for i in range(count))
    return drawn if count > 1 else drawn[0]


def by_torch(kind, **options):
    """Run torch's module with our weights; a mask becomes a packed sequence."""
    module = kind(3, 4, **{"batch_first": True, **options})

    def run(params, x):
        if not isinstance(x, tuple):
            return functional_call(module, torch_names(params), (x,))[0]
        sequence, state, mask = (*x, None)[:3]
        if mask is None:
            return functional_call(module, torch_names(params), (sequence, state))
        if mask.ndim == 1:  # torch packs batches alone
            y, last = run(params, (sequence[None], state, mask[None]))
            return y[0], lf.tree.map(lambda s: s[:, 0], last)
        axis, layout = int(module.batch_first), {"batch_first": module.batch_first}
        packed = nn.utils.rnn.pack_padded_sequence(
            sequence, mask.sum(axis), enforce_sorted=False, **layout
        )
        outputs, last = functional_call(module, torch_names(params), (packed, state))
        length = sequence.shape[axis]
        return nn.utils.rnn.pad_packed_sequence(outputs, total_length=length, **layout)[0], last

    run.module = module
    return run


def cell_by_torch(kind, **options):
    """Run torch's cell with our weights."""
    module = kind(3, 4, **options)

    def run(params, x):
        return functional_call(module, torch_names(params), x if isinstance(x, tuple) else (x,))

    run.module = module
    return run


STEP = normal(5, 3, seed=3)


def step_state(count, *batch):
    drawn = tuple(normal(*batch, 4, seed=17 + i) for i in range(count))
    return drawn if count > 1 else drawn[0]


TURNED, BOTH = SEQUENCE.transpose(0, 1).contiguous(), {"num_layers": 2, "bidirectional": True}
LENGTH_FIRST = {"batch_first": False}
CASES = []
for layer, kind, count in ((lf.rnn, nn.RNN, 1), (lf.gru, nn.GRU, 1), (lf.lstm, nn.LSTM, 2)):
    of_four = states(count, layers=4)
    CASES += [
        Case(layer(4, **options), x, by_torch(kind, **options), note=note)
        for note, x, options in (
            ("", SEQUENCE, {}),
            ("", SEQUENCE, {"bias": False}),
            ("state", (SEQUENCE, of_four), BOTH),
            ("no state", (SEQUENCE, None), {"num_layers": 3}),
            ("state and mask", (SEQUENCE, states(count), MASK), {}),
            ("mask", (SEQUENCE, None, MASK), BOTH),
            ("length first, state", (TURNED, of_four), {**BOTH, **LENGTH_FIRST}),
            ("unbatched, state", (SEQUENCE[0], step_state(count, 4)), BOTH),
            ("length first, mask", (TURNED, None, MASK.mT), LENGTH_FIRST),
            ("unbatched, mask", (SEQUENCE[0], None, MASK[0]), {}),
        )
    ]
for layer, kind, count in (
    (lf.rnn_cell, nn.RNNCell, 1),
    (lf.gru_cell, nn.GRUCell, 1),
    (lf.lstm_cell, nn.LSTMCell, 2),
):
    CASES += [
        Case(layer(4), STEP, cell_by_torch(kind)),
        Case(layer(4), (STEP, step_state(count, 5)), cell_by_torch(kind), note="state"),
        Case(layer(4, bias=False), (STEP, step_state(count, 5)), cell_by_torch(kind, bias=False)),
        Case(layer(4), (STEP[0], step_state(count)), cell_by_torch(kind), note="unbatched"),
        Case(layer(4), (SEQUENCE, step_state(count, 2, 5)), note="two axes of examples"),
    ]
CASES += [
    Case(
        lf.rnn_cell(4, nonlinearity="relu"),
        (STEP, step_state(1, 5)),
        cell_by_torch(nn.RNNCell, nonlinearity="relu"),
    ),
    Case(lf.rnn(4, nonlinearity="relu"), SEQUENCE, by_torch(nn.RNN, nonlinearity="relu")),
]
