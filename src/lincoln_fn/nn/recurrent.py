"""Constructors of recurrent layers."""

from __future__ import annotations

from functools import partial
from types import ModuleType

from lincoln_fn import layers
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.layers._recurrent import Form
from lincoln_fn.nn.build import layer_of

__all__ = ["gru", "lstm", "rnn"]

_INIT = fan_in_uniform()


def rnn(
    hidden_size: int,
    num_layers: int = 1,
    nonlinearity: str = "tanh",
    bias: bool = True,
    bidirectional: bool = False,
    *,
    weight_init: Initializer = _INIT,
    bias_init: Initializer = _INIT,
) -> Layer:
    """Make Elman's recurrent layer: h' = f(x W_ih + b_ih + h W_hh + b_hh).

    x is a sequence (batch, length, n_in), or a tuple (sequence, state[, mask]): then y is
    (outputs, last state). The state may be None for zeros.

    Args:
        hidden_size: features of a state.
        num_layers: how many layers run over each other's outputs.
        nonlinearity: f, "tanh" or "relu".
        bias: whether there are biases.
        bidirectional: whether each layer also runs from the end to the beginning.
        weight_init: draws the matrices. The default is uniform within 1 / sqrt(hidden_size).
        bias_init: draws the biases, with the same default.

    Returns:
        The layer, whose params are `layers.rnn.Params`.

    Raises:
        ValueError: if there is no such nonlinearity, or a number is below 1.

    Example:
        >>> rnn(8, bidirectional=True)
        rnn(8, bidirectional=True)
    """
    if nonlinearity not in layers.rnn.FAMILIES:
        raise ValueError(f"rnn: expected nonlinearity tanh or relu, got {nonlinearity!r}")
    return _recurrent(
        layers.rnn,
        "rnn",
        Form(hidden_size, num_layers, bias, bidirectional, weight_init, bias_init),
        nonlinearity=nonlinearity,
    )


def gru(
    hidden_size: int,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    *,
    weight_init: Initializer = _INIT,
    bias_init: Initializer = _INIT,
) -> Layer:
    """Make a layer of gated recurrent units.

    x is a sequence (batch, length, n_in), or a tuple (sequence, state[, mask]): then y is
    (outputs, last state). The state may be None for zeros.

    Args:
        hidden_size: features of a state.
        num_layers: how many layers run over each other's outputs.
        bias: whether there are biases.
        bidirectional: whether each layer also runs from the end to the beginning.
        weight_init: draws the matrices. The default is uniform within 1 / sqrt(hidden_size).
        bias_init: draws the biases, with the same default.

    Returns:
        The layer, whose params are `layers.gru.Params`.

    Raises:
        ValueError: if a number is below 1.

    Example:
        >>> gru(8, num_layers=2)
        gru(8, num_layers=2)
    """
    return _recurrent(
        layers.gru,
        "gru",
        Form(hidden_size, num_layers, bias, bidirectional, weight_init, bias_init),
    )


def lstm(
    hidden_size: int,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    *,
    weight_init: Initializer = _INIT,
    bias_init: Initializer = _INIT,
) -> Layer:
    """Make a layer of long short-term memory, whose state is a pair (h, c).

    x is a sequence (batch, length, n_in), or a tuple (sequence, state[, mask]): then y is
    (outputs, last state). The state may be None for zeros.

    Args:
        hidden_size: features of a state.
        num_layers: how many layers run over each other's outputs.
        bias: whether there are biases.
        bidirectional: whether each layer also runs from the end to the beginning.
        weight_init: draws the matrices. The default is uniform within 1 / sqrt(hidden_size).
        bias_init: draws the biases, with the same default.

    Returns:
        The layer, whose params are `layers.lstm.Params`.

    Raises:
        ValueError: if a number is below 1.

    Example:
        >>> lstm(8, bias=False)
        lstm(8, bias=False)
    """
    return _recurrent(
        layers.lstm,
        "lstm",
        Form(hidden_size, num_layers, bias, bidirectional, weight_init, bias_init),
    )


def _recurrent(module: ModuleType, name: str, form: Form, **hyperparameters: str) -> Layer:
    for what in ("hidden_size", "num_layers"):
        number = getattr(form, what)
        if number < 1:
            raise ValueError(f"{name}: expected {what} of at least 1, got {number}")
    spelling = call_repr(
        name,
        form.hidden_size,
        num_layers=(form.num_layers, 1),
        **{option: (value, "tanh") for option, value in hyperparameters.items()},
        bias=(form.bias, True),
        bidirectional=(form.bidirectional, False),
        weight_init=(form.weight_init, _INIT),
        bias_init=(form.bias_init, _INIT),
    )
    return layer_of(spelling, module, partial(module.init, form=form), **hyperparameters)
