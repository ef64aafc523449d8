"""torch's recurrent modules and their cells become layers: outputs, states and all gradients."""

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number
from torch import nn

import lincoln_fn as lf
from lincoln_fn.interop import from_state_dict, from_torch, to_state_dict

KINDS = {nn.RNN: 1, nn.GRU: 1, nn.LSTM: 2}
CELLS = {nn.RNNCell: 1, nn.GRUCell: 1, nn.LSTMCell: 2}
FORMS = [
    {},
    {"batch_first": True},
    {"bias": False},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 3, "bidirectional": True, "batch_first": True, "bias": False},
]


def state_of(count, *shape):
    drawn = tuple(normal(*shape, seed=20 + i).double() for i in range(count))
    return drawn if count > 1 else drawn[0]


def assert_same(module, x):
    """Hold y and the gradients of x and of every parameter against autograd's."""
    module = module.double()
    layer, params = from_torch(module)
    given = lf.tree.map(lambda t: t.clone().requires_grad_(), x)
    theirs = module(*given) if isinstance(given, tuple) else module(given)
    if isinstance(module, nn.RNNBase) and not isinstance(given, tuple):
        theirs = theirs[0]
    y, cache = layer.forward(params, x)
    assert lf.tree.same_structure(y, theirs)
    assert same_number(y, theirs)
    numbers = iter(range(9))
    g = lf.tree.map(lambda t: normal(*t.shape, seed=40 + next(numbers)).double(), y)
    dx, dparams = layer.backward(params, cache, g)
    assert lf.tree.same_structure(dx, x)
    named, parameters = to_state_dict(layer, dparams), dict(module.named_parameters())
    assert list(named) == list(parameters)
    wanted = torch.autograd.grad(
        lf.tree.leaves(theirs),
        [*lf.tree.leaves(given), *parameters.values()],
        lf.tree.leaves(g),
    )
    ours = [*lf.tree.leaves(dx), *named.values()]
    assert same_number(ours, list(wanted))


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("has_state", [False, True], ids=["alone", "state"])
@pytest.mark.parametrize("batch", [(), (4,)], ids=["unbatched", "batched"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_sequence(kind, batch, has_state, form):
    torch.manual_seed(1)
    shape = (*batch, 5) if form.get("batch_first") else (5, *batch)
    x = normal(*shape, 3).double()
    states = form.get("num_layers", 1) * (1 + form.get("bidirectional", False))
    state = state_of(KINDS[kind], states, *batch, 6)
    assert_same(kind(3, 6, **form), (x, state) if has_state else x)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("has_state", [False, True], ids=["alone", "state"])
@pytest.mark.parametrize("batch", [(), (4,)], ids=["unbatched", "batched"])
@pytest.mark.parametrize("kind", CELLS, ids=lambda kind: kind.__name__)
def test_a_cell(kind, batch, has_state, bias):
    torch.manual_seed(1)
    x = normal(*batch, 3).double()
    state = state_of(CELLS[kind], *batch, 6)
    assert_same(kind(3, 6, bias), (x, state) if has_state else x)


def test_a_sequence_and_a_cell_by_relu():
    torch.manual_seed(1)
    assert_same(nn.RNN(3, 6, nonlinearity="relu"), normal(5, 4, 3).double())
    x = normal(4, 3).double(), state_of(1, 4, 6)
    assert_same(nn.RNNCell(3, 6, nonlinearity="relu"), x)


@pytest.mark.parametrize("kind", CELLS, ids=lambda kind: kind.__name__)
def test_a_cell_there_and_back_by_names(kind):
    module = kind(3, 6)
    layer, params = from_torch(module)
    named = to_state_dict(layer, params)
    assert list(named) == list(module.state_dict())
    module.load_state_dict(named, strict=True)
    back = from_state_dict(layer, named)
    assert same_bits(back, params)
    with pytest.raises(lf.LayerError, match=r"weight_hh: missing.*weight_hh_l0: unexpected"):
        from_state_dict(layer, kind_of_layer(kind)(3, 6).state_dict())


def kind_of_layer(kind):
    return getattr(nn, kind.__name__.removesuffix("Cell"))


def test_names_show_what_torch_was_told():
    assert repr(from_torch(nn.LSTM(3, 6, 2))[0]) == "lstm(6, num_layers=2, batch_first=False)"
    assert repr(from_torch(nn.GRU(3, 6, batch_first=True))[0]) == "gru(6)"
    assert repr(from_torch(nn.LSTMCell(3, 6, bias=False))[0]) == "lstm_cell(6, bias=False)"


def test_a_packed_sequence_is_refused_by_name():
    layer, params = from_torch(nn.LSTM(3, 6))
    packed = nn.utils.rnn.pack_sequence([normal(4, 3), normal(2, 3)])
    with pytest.raises(lf.LayerError, match="lstm: expected a padded sequence and a mask, got Pac"):
        layer.predict(params, packed)
