"""The networks of `--exported`, each with its loss, its optimizer and a batch of random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
from torch import Tensor

import lincoln_fn as lf
from lincoln_fn import keys, optim
from lincoln_fn.losses import sigmoid_cross_entropy, softmax_cross_entropy

KEY: Final = lf.Key(3)
CODES: Final = 64  # of the networks over characters


@attrs.frozen
class Training:
    """A step, its first state and a batch."""

    step: lf.Step
    state: lf.TrainState
    batch: tuple[lf.Arrays, Tensor]


def _training(
    net: lf.Layer,
    loss: lf.Loss,
    optimizer: lf.Optimizer,
    x: lf.Arrays,
    target: Tensor,
    params: lf.Params | None = None,
) -> Training:
    state = lf.init_state(net, optimizer, KEY, x)
    if params is not None:
        state = attrs.evolve(state, params=params, opt_state=optimizer.init(params))
    return Training(lf.make_step(net, loss, optimizer), state, (x, target))


def _numbers(*shape: int) -> Tensor:
    return keys.normal(KEY.fold_in(1), shape)


def _codes(*shape: int, below: int) -> Tensor:
    drawn = keys.uniform(KEY.fold_in(2), shape, 0, below)
    return drawn.long().clamp(max=below - 1)


def _text(batch: int, length: int) -> tuple[Tensor, Tensor]:
    codes = _codes(batch, length + 1, below=CODES)
    return codes[:, :-1].contiguous(), codes[:, 1:].contiguous()


def logistic() -> Training:
    """Make a network of 30-10-1 units, with sigmoids; SGD."""
    net = lf.serial(lf.dense(10), lf.sigmoid(), lf.dense(1))
    target = _codes(128, below=2)
    return _training(net, sigmoid_cross_entropy(), optim.sgd(0.1), _numbers(128, 30), target)


def mlp() -> Training:
    """Make a network of 784-64-10 units, with ReLU; AdamW."""
    net = lf.serial(lf.dense(64), lf.relu(), lf.dense(10))
    x, target = _numbers(32, 784), _codes(32, below=10)
    return _training(net, softmax_cross_entropy(), optim.adamw(1e-3), x, target)


def lenet() -> Training:
    """Make two convolutions with ReLU and max-pooling, and two dense layers; SGD."""
    convolutions = (
        lf.serial(lf.conv2d(channels, 5, padding=2), lf.relu(), lf.max_pool2d(2))
        for channels in (16, 32)
    )
    net = lf.serial(*convolutions, lf.flatten(), lf.dense(128), lf.relu(), lf.dense(10))
    x, target = _numbers(8, 1, 28, 28), _codes(8, below=10)
    return _training(net, softmax_cross_entropy(), optim.sgd(0.02), x, target)


def lstm() -> Training:
    """Make an LSTM of 64 units over 32 characters; RMSprop."""
    net = lf.serial(lf.embedding(CODES, 32), lf.lstm(64), lf.dense(CODES))
    loss = softmax_cross_entropy(dim=-1)
    return _training(net, loss, optim.rmsprop(1e-3), *_text(16, 32))


def gpt() -> Training:
    """Make a transformer of two blocks of 32 features, with dropout; AdamW."""
    block = lf.transformer_encoder_block(4, 128, 0.1, "gelu", norm_first=True, is_causal=True)
    net = lf.serial(
        lf.embedding(CODES, 32), lf.positional_embedding(32), lf.dropout(0.1), block, block,
        lf.layer_norm(), lf.dense(CODES),
    )  # fmt: skip
    return _training(net, softmax_cross_entropy(dim=-1), optim.adamw(1e-3), *_text(4, 32))


def llama_lora() -> Training:
    """Make two blocks of a Llama with LoRA on all projections of attention; AdamW."""
    norm = lf.rms_norm()
    block = lf.serial(
        lf.residual(lf.serial(norm, lf.grouped_query_attention(4, 2))),
        lf.residual(lf.serial(norm, lf.swiglu(88))),
    )
    llama = lf.tied(lf.embedding(CODES, 32), lf.serial(lf.repeat(2, block), norm))
    x, target = _text(4, 32)
    net, params = lf.lora(llama, llama.init(KEY, x), KEY, r=4, targets=("*",))
    loss = softmax_cross_entropy(dim=-1)
    return _training(net, loss, optim.adamw(1e-3), x, target, params)


def graph() -> Training:
    """Make a network of two graph convolutions over 200 nodes; AdamW."""
    net = lf.with_context(
        lf.serial(lf.select(0), lf.dense(32)), lf.graph_conv(),
        lf.serial(lf.select(0), lf.relu(), lf.dense(7)), lf.graph_conv(),
    )  # fmt: skip
    x = _numbers(200, 64), _codes(2, 1000, below=200)
    loss = softmax_cross_entropy()
    return _training(net, loss, optim.adamw(1e-2), x, _codes(200, below=7))


def resnet() -> Training:
    """Make a convolutional network with batch norm and residual blocks; momentum."""

    def convolution(channels: int, stride: int = 1) -> lf.Layer:
        conv = lf.conv2d(channels, 3, stride, 1, bias=False)
        return lf.serial(conv, lf.batch_norm())

    blocks = (
        lf.serial(
            convolution(channels, 2), lf.relu(),
            lf.residual(lf.serial(convolution(channels), lf.relu(), convolution(channels))),
            lf.relu(),
        )
        for channels in (16, 32)
    )  # fmt: skip
    net = lf.serial(*blocks, lf.global_avg_pool(), lf.dense(10))
    x, target = _numbers(8, 3, 32, 32), _codes(8, below=10)
    optimizer = optim.sgd(0.02, momentum=0.9)
    return _training(net, softmax_cross_entropy(), optimizer, x, target)


NETWORKS: Final[dict[str, Callable[[], Training]]] = {
    "logistic": logistic,
    "mlp": mlp,
    "lenet": lenet,
    "lstm": lstm,
    "gpt": gpt,
    "llama-lora": llama_lora,
    "graph": graph,
    "resnet": resnet,
}
