"""A module and the layer made of it agree, train side by side, and stay together."""

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_number
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import lincoln_fn as lf
from lincoln_fn.interop import from_torch, to_state_dict

STEPS, RATE = 20, 0.05


def lenet():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.BatchNorm2d(6), nn.Tanh(), nn.AvgPool2d(2)),
        nn.Sequential(
            nn.Conv2d(6, 8, 5), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        ),
        nn.Flatten(),
        nn.Dropout(0.0),
        nn.Linear(32, 20),
        nn.Sigmoid(),
        nn.Linear(20, 10),
    )


def vgg():
    layers, channels = [], 3
    for width in (8, 8, "M", 12, 12, "M", 16, "M"):
        if width == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(inplace=True)]
        channels = width
    head = nn.Sequential(nn.Linear(64, 24), nn.ReLU(True), nn.Dropout(0.0), nn.Linear(24, 10))
    return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(2), nn.Flatten(), head)


def first(module, x):
    y = module(*x) if isinstance(x, tuple) else module(x)
    return y[0] if isinstance(y, tuple) else y


def images(channels, size):
    return [normal(16, channels, size, size, seed=i) for i in range(STEPS)]


SEQUENCES = [normal(4, 5, 6, seed=i) for i in range(STEPS)]
CROSS = [(x, normal(4, 3, 6, seed=99), normal(4, 3, 6, seed=98)) for x in SEQUENCES]
LENGTH_FIRST = [tuple(t.transpose(0, 1) for t in x) for x in CROSS]
LABELS = [torch.arange(16).roll(i) % 10 for i in range(STEPS)]

ROWS = [
    (lenet, images(1, 16), LABELS),
    (vgg, images(3, 16), LABELS),
    (lambda: nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True), SEQUENCES, None),
    (
        lambda: nn.TransformerDecoderLayer(6, 2, 8, 0.0, batch_first=True),
        [x[:2] for x in CROSS],
        None,
    ),
    (lambda: nn.Transformer(6, 2, 1, 2, 8, 0.0, batch_first=True), [x[:2] for x in CROSS], None),
    (lambda: nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True), SEQUENCES, None),
    (lambda: nn.GRU(6, 5, batch_first=True), SEQUENCES, None),
    (lambda: nn.MultiheadAttention(6, 2, batch_first=True), CROSS, None),
    (lambda: nn.MultiheadAttention(6, 2), LENGTH_FIRST, None),
    (lambda: nn.MultiheadAttention(6, 2), [tuple(t[0] for t in x) for x in CROSS], None),
]
IDS = [
    "lenet", "vgg", "encoder", "decoder", "transformer", "lstm", "gru", "attention",
    "length first", "unbatched",
]  # fmt: skip


# In single precision, rounding sets the two runs of vgg apart after some fifteen steps; in double
# precision they stay together.
SINGLE = [(*row, torch.float32) for row in ROWS if row[0] is not vgg]


@pytest.mark.full
@pytest.mark.parametrize(
    ("make", "xs", "targets", "dtype"),
    [*((*row, torch.float64) for row in ROWS), *SINGLE],
    ids=[*(f"{name}-double" for name in IDS), *(name for name in IDS if name != "vgg")],
)
def test_twenty_steps_beside_torch(make, xs, targets, dtype):
    torch.manual_seed(3)
    module = make().to(dtype)
    xs = lf.tree.map(lambda leaf: leaf.to(dtype), xs)
    layer, params = from_torch(module)
    assert same_number(layer.predict(params, xs[0]), first(module.eval(), xs[0]).detach())
    if targets is None:
        targets = [normal(*first(module, x).shape, seed=50 + i).to(dtype) for i, x in enumerate(xs)]
        loss, their_loss = lf.losses.mse(), mse_loss
    else:
        loss, their_loss = lf.losses.softmax_cross_entropy(), cross_entropy
    optimizer, theirs = lf.optim.sgd(RATE), torch.optim.SGD(module.train().parameters(), RATE)
    step = lf.make_step(layer, loss, optimizer)
    state = lf.init_state(layer, optimizer, lf.Key(0), xs[0])
    state = lf.TrainState(params, state.opt_state, state.key, state.step)
    begun = to_state_dict(layer, params)
    for x, target in zip(xs, targets, strict=True):
        state, value = step(state, (x, target))
        theirs.zero_grad()
        their_value = their_loss(first(module, x), target)
        their_value.backward()
        theirs.step()
        assert same_number(value, their_value.detach())
    named = to_state_dict(layer, state.params)
    assert same_number(named, dict(module.state_dict()))
    assert any((named[name] - begun[name]).abs().max() > 1e-3 for name in named)
    fresh = make().to(dtype)
    fresh.load_state_dict(named, strict=True)
    assert same_number(first(fresh.eval(), xs[0]).detach(), first(module.eval(), xs[0]).detach())
    assert same_number(layer.predict(state.params, xs[0]), first(fresh, xs[0]).detach())
