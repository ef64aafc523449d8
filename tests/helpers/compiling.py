"""Steps that are compiled, and what they are compared with."""

import pytest
import torch
from torch._inductor.cpp_builder import get_cpp_compiler

import lincoln_fn as lf
from helpers.steps import CE, assert_same_steps, begin
from lincoln_fn.core.record import State, record
from lincoln_fn.layers import dropout

optim, schedules = lf.optim, lf.schedules


def has_compiler():
    try:
        get_cpp_compiler()
    except RuntimeError:
        return False
    return True


compiles = pytest.mark.skipif(not has_compiler(), reason="Inductor finds no C++ compiler")

since_2_13 = pytest.mark.skipif(
    torch.__version__ < "2.13", reason="older torches do not make it, or have not been tried"
)


def compiles_in_full(test):
    """Mark a test that compiles: it is left to the full suite, and to where there is a compiler."""
    return pytest.mark.full(compiles(test))


@record
class Shown(State):
    """A mask that can be looked at after the step, and the key of the next."""

    mask: torch.Tensor
    dropout: dropout.Params


def showing_dropout():
    """A user's layer: dropout that keeps its last mask among its params."""

    def forward(params, x):
        y, cache = dropout.forward(params.dropout, x, p=0.5)
        return y, cache

    return lf.Layer(
        "showing_dropout()",
        forward,
        lambda params, cache, g: (dropout.backward(params.dropout, cache, g)[0], params),
        lambda key, x: Shown(torch.ones(x.shape, dtype=torch.bool), dropout.init(key, x)),
        advance=lambda params, cache: Shown(cache.mask, dropout.advance(params.dropout, cache)),
    )


X = lf.keys.normal(lf.Key(1), (6, 5))
T = torch.tensor([0, 2, 1, 1, 2, 0])
TOKENS = torch.tensor([[3, 1, 4], [5, 0, 2]])
LETTERS = torch.tensor([[1, 4, 1], [0, 2, 6]])
CASES = {
    "dense": (lf.serial(showing_dropout(), lf.frozen(lf.dense(4)),
            lf.checkpointed(lf.serial(lf.dense(7), lf.dropout(0.2), lf.relu())), lf.batch_norm(),
            lf.dense(3)),
        lf.losses.softmax_cross_entropy(weight=torch.tensor([1.0, 2.0, 0.5]), ignore_index=9),
        optim.chain(optim.ema(0.9),
            optim.sgd(schedules.exponential(0.1, 0.5), momentum=0.9, nesterov=True)), (X, T)),
    # Inductor once took the sum of a product and 0.9 b for their plain sum.
    "momentum": (lf.serial(lf.dense(4), lf.tanh(), lf.dense(3)), lf.losses.softmax_cross_entropy(),
        optim.sgd(0.1, momentum=0.9, dampening=0.3, weight_decay=0.1), (X, T)),
    "pooling": (lf.serial(lf.conv2d(4, 3), lf.relu(), lf.max_pool2d(2, 1, 1), lf.flatten(),
            lf.dense(4), lf.gelu()), lf.losses.softmax_cross_entropy(), optim.sgd(0.1),
        (lf.keys.normal(lf.Key(5), (6, 2, 5, 6)), T)),
    "lstm": (lf.serial(lf.embedding(7, 6), lf.lstm(5), lf.flatten()), lf.losses.mse(),
        optim.adam(0.05), (TOKENS[:, :2], X[:2].repeat(1, 2))),
    "attention": (lf.serial(lf.embedding(7, 6),
            lf.multi_head_attention(2, dropout=0.1, is_causal=True), lf.dense(7),
            lf.permute(0, 2, 1)), lf.losses.softmax_cross_entropy(),
        optim.chain(optim.accumulate(2), optim.adamw(schedules.cosine(0.05, 10))),
        (TOKENS, LETTERS)),
}  # fmt: skip


def assert_compiles(net, optimizer, x, target, *, donate, loss=CE):
    """Compare three compiled steps with three eager ones."""
    step, state = begin(net, x, loss, optimizer, donate=donate)
    assert_same_steps(lf.compile(step), step, state, *[(x, target)] * 3)


@record
class Seen(State):
    """The weight of the step before."""

    weight: torch.Tensor


def remembering():
    """A layer x * w whose `advance` puts its weight into a State."""

    def backward(params, x, g):
        return g * params["w"], {"w": (g * x).sum(0), "seen": params["seen"]}

    return lf.Layer(
        "remembering()",
        lambda params, x: (x * params["w"], x),
        backward,
        lambda key, x: {"w": torch.arange(1.0, 6.0), "seen": Seen(torch.zeros(5))},
        advance=lambda params, cache: {"w": params["w"], "seen": Seen(params["w"])},
    )
