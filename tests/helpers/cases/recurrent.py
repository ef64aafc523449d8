"""Recurrent layers: kinds, layers, directions, states and masks."""

import torch
from torch import nn
from torch.func import functional_call

import lincoln_fn as lf
from helpers.cases.case import Case, normal

SEQUENCE = normal(2, 5, 3)
MASK = torch.tensor([[True, True, True, False, False], [True, True, True, True, True]])


def states(count, hidden=4, layers=1, seed=7):
    drawn = tuple(normal(layers, 2, hidden, seed=seed + i) for i in range(count))
    return drawn if count > 1 else drawn[0]


def torch_weights(params):
    """Name our matrices and biases as torch does."""
    weights = {}
    for k, pair in enumerate(params.cells):
        for direction, cell in zip(("", "_reverse"), pair, strict=False):
            weights[f"weight_ih_l{k}{direction}"] = cell.weight_ih.mT
            weights[f"weight_hh_l{k}{direction}"] = cell.weight_hh.mT
            if cell.bias_ih is not None:
                weights[f"bias_ih_l{k}{direction}"] = cell.bias_ih
                weights[f"bias_hh_l{k}{direction}"] = cell.bias_hh
    return weights


def by_torch(kind, **options):
    """Run torch's module with our weights; a mask becomes a packed sequence."""
    module = kind(3, 4, **{"batch_first": True, **options})

    def run(params, x):
        if not isinstance(x, tuple):
            return functional_call(module, torch_weights(params), (x,))[0]
        sequence, state, mask = (*x, None)[:3]
        if mask is None:
            return functional_call(module, torch_weights(params), (sequence, state))
        packed = nn.utils.rnn.pack_padded_sequence(
            sequence, mask.sum(1), batch_first=True, enforce_sorted=False
        )
        outputs, last = functional_call(module, torch_weights(params), (packed, state))
        length = sequence.shape[1]
        padded = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=length)
        return padded[0], last

    return run


def cell_by_torch(kind, **options):
    """Run torch's cell with our weights."""
    module = kind(3, 4, **options)

    def run(params, x):
        weights = {"weight_ih": params.weight_ih.mT, "weight_hh": params.weight_hh.mT}
        if params.bias_ih is not None:
            weights |= {"bias_ih": params.bias_ih, "bias_hh": params.bias_hh}
        return functional_call(module, weights, x if isinstance(x, tuple) else (x,))

    return run


STEP = normal(5, 3, seed=3)


def step_state(count, *batch):
    drawn = tuple(normal(*batch, 4, seed=17 + i) for i in range(count))
    return drawn if count > 1 else drawn[0]


CASES = []
for layer, kind, count in ((lf.rnn, nn.RNN, 1), (lf.gru, nn.GRU, 1), (lf.lstm, nn.LSTM, 2)):
    CASES += [
        Case(layer(4), SEQUENCE, by_torch(kind)),
        Case(layer(4), SEQUENCE[:1, :1], by_torch(kind), note="one step of one example"),
        Case(layer(4, bias=False), SEQUENCE, by_torch(kind, bias=False)),
        Case(layer(4, num_layers=3), SEQUENCE, by_torch(kind, num_layers=3)),
        Case(layer(4, bidirectional=True), SEQUENCE, by_torch(kind, bidirectional=True)),
        Case(
            layer(4, num_layers=2, bidirectional=True),
            (SEQUENCE, states(count, layers=4)),
            by_torch(kind, num_layers=2, bidirectional=True),
            note="state",
        ),
        Case(
            layer(4, num_layers=3), (SEQUENCE, None), by_torch(kind, num_layers=3), note="no state"
        ),
        Case(layer(4), (SEQUENCE, states(count), MASK), by_torch(kind), note="state and mask"),
        Case(
            layer(4, num_layers=2, bidirectional=True),
            (SEQUENCE, None, MASK),
            by_torch(kind, num_layers=2, bidirectional=True),
            note="mask",
        ),
    ]
    turned, unbatched = SEQUENCE.transpose(0, 1).contiguous(), SEQUENCE[0]
    CASES += [
        Case(layer(4, batch_first=False), turned, by_torch(kind, batch_first=False)),
        Case(
            layer(4, num_layers=2, bidirectional=True, batch_first=False),
            (turned, states(count, layers=4)),
            by_torch(kind, num_layers=2, bidirectional=True, batch_first=False),
            note="length first, state",
        ),
        Case(layer(4, batch_first=False), (turned, None, MASK.mT), note="length first, mask"),
        Case(layer(4), unbatched, by_torch(kind), note="unbatched"),
        Case(
            layer(4, num_layers=2, bidirectional=True),
            (unbatched, step_state(count, 4)),
            by_torch(kind, num_layers=2, bidirectional=True),
            note="unbatched, state",
        ),
        Case(layer(4), (unbatched, None, MASK[0]), note="unbatched, mask"),
    ]
for layer, kind, count in (
    (lf.rnn_cell, nn.RNNCell, 1),
    (lf.gru_cell, nn.GRUCell, 1),
    (lf.lstm_cell, nn.LSTMCell, 2),
):
    CASES += [
        Case(layer(4), STEP, cell_by_torch(kind)),
        Case(layer(4), (STEP, step_state(count, 5)), cell_by_torch(kind), note="state"),
        Case(layer(4), (STEP, None), cell_by_torch(kind), note="no state"),
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
