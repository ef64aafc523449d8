"""One step of a recurrent layer: rnn_cell, gru_cell and lstm_cell.

A step computes a new state s' from s and two sums: a of the input, and b of h, s's first tensor:

    a = x W_(ih) + b_(ih)
    b = h W_(hh) + b_(hh)
    s' = step(a, b, s)

Derivation. The backward of step, which `rnn.py`, `gru.py` and `lstm.py` derive, computes da, db and
the part of ds that does not go through b. The part that goes through b is added to dh. With the
examples n in the rows of x and h:

    dx = da W_(ih)^T
    dh = dh + db W_(hh)^T
    dW_(ih) = x^T da
    dW_(hh) = h^T db
    db_(ih) = sum_n da_n
    db_(hh) = sum_n db_n

Cache: x, h and the tensors that the step saved.
"""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, Layer, PositiveInt, constructor, record, static, unexpected
from lincoln_fn.initializers import Initializer
from lincoln_fn.layers.common import recurrent
from lincoln_fn.layers.common.recurrent import FAN_IN, Family, Form, check_cell, checked_states
from lincoln_fn.layers.common.scan import Cell, Tensors, affine, cell_grads, cell_terms
from lincoln_fn.layers.gru import FAMILY as GRU
from lincoln_fn.layers.lstm import FAMILY as LSTM
from lincoln_fn.layers.rnn import FAMILIES as RNN
from lincoln_fn.layers.rnn import Nonlinearity

# The parameters of one layer of rnn, gru or lstm in one direction.
Params: TypeAlias = Cell


@record
class Cache:
    """The input and h, the tensors that the step saved, the kind of cell, and the form of x."""

    x: Float[Tensor, "*batch n_in"]
    h: Float[Tensor, "*batch hidden"]
    kept: Tensors
    family: Family = static()
    is_tuple: bool = static()
    has_state: bool = static()


def init(key: Key, x: Arrays, *, family: Family, form: Form) -> Params:
    """Draw the parameters, as for one layer of `rnn`, `gru` or `lstm`."""
    given = x[0] if type(x) is tuple and x else x
    core.check_input(family.name, (), given)
    keys = map(key.fold_in, range(4))
    return recurrent.drawn_cell(keys, given.shape[-1], family.rule.gates, form, given.dtype)


def forward(params: Params, x: Arrays, *, family: Family) -> tuple[Arrays, Cache]:
    """Compute a = x W_ih + b_ih, b = h W_hh + b_hh and s' = step(a, b, s)."""
    given, state, has_state = _unpacked(params, x, family)
    a = affine(given, params.weight_ih, params.bias_ih)
    b = affine(state[0], params.weight_hh, params.bias_hh)
    new, kept = family.rule.step(a, b, state)
    return _packed(new), Cache(given, state[0], kept, family, type(x) is tuple, has_state)


def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    """Compute da, db and ds by the step's backward, then dx, dh and dparams as derived above."""
    family, x, h = cache.family, cache.x, cache.h
    check_cell(family.name, params, family.rule.gates)
    ds = _checked_state(family, "g", g, tuple(h.shape), h)
    da, db, ds = family.rule.step_backward(cache.kept, ds)
    dx = affine(da, params.weight_ih.mT)
    dh = ds[0] + affine(db, params.weight_hh.mT)
    dparams = cell_grads(params, x, h, da, db)
    dstate = _packed((dh, *ds[1:])) if cache.has_state else None
    return (dx, dstate) if cache.is_tuple else dx, dparams


def terms(params: Params, cache: Cache, g: Arrays) -> Params:
    """Return dW_ih,n = x_n^T da_n, dW_hh,n = h_n^T db_n and the biases' da_n and db_n."""
    ds = g if isinstance(g, tuple) else (g,)
    core.check_batched(cache.family.name, ds[0])
    da, db, _ = cache.family.rule.step_backward(cache.kept, ds)
    return cell_terms(params, cache.x, cache.h, da, db)


core.declare(forward, backward, kind="recurrent", terms=terms)


def _packed(state: Tensors) -> Arrays:
    return state[0] if len(state) == 1 else state


def _unpacked(params: Params, x: Arrays, family: Family) -> tuple[Tensor, Tensors, bool]:
    name = family.name
    check_cell(family.name, params, family.rule.gates)
    if type(x) is tuple and len(x) != 2:
        raise unexpected(name, "x or (x, state)", core.format_briefly(x))
    given, state = x if type(x) is tuple else (x, None)
    core.check_input(name, (), given)
    core.check_like(name, "x", given, params.weight_ih)
    n_in, hidden = len(params.weight_ih), len(params.weight_hh)
    if given.ndim == 0 or given.shape[-1] != n_in:
        raise core.wrong_shape(name, "x", given, f"(..., {n_in})")
    shape = (*given.shape[:-1], hidden)
    if state is None:
        return given, (given.new_zeros(shape),) * family.rule.states, False
    return given, _checked_state(family, "the state", state, shape, given), True


def _checked_state(
    family: Family, what: str, state: Arrays, shape: tuple[int, ...], like: Tensor
) -> Tensors:
    states = checked_states(family.name, family.rule, what, state, shape)
    for tensor in states:
        core.check_like(family.name, what, tensor, like)
    return states


@constructor
def rnn_cell(
    hidden_size: PositiveInt, bias: bool = True, nonlinearity: Nonlinearity = "tanh",
    *, weight_init: Initializer = FAN_IN, bias_init: Initializer = FAN_IN,
) -> Layer:  # fmt: skip
    """Make one step of Elman's recurrent layer: h' = f(x W_ih + b_ih + h W_hh + b_hh).

    Its arguments and errors are those of `lstm_cell`; a state is one tensor (..., hidden_size).
    f is nonlinearity, "tanh" or "relu".

    Example:
        >>> cell, x = lf.rnn_cell(8, nonlinearity="relu"), torch.zeros(2, 3)
        >>> cell.predict(cell.init(lf.Key(0), x), x).shape
        torch.Size([2, 8])
    """
    return _layer(RNN[nonlinearity], Form(hidden_size, 1, bias, False, weight_init, bias_init))


@constructor
def gru_cell(
    hidden_size: PositiveInt, bias: bool = True, *, weight_init: Initializer = FAN_IN,
    bias_init: Initializer = FAN_IN,
) -> Layer:  # fmt: skip
    """Make one step of a gated recurrent unit.

    Its arguments and errors are those of `lstm_cell`; a state is one tensor (..., hidden_size).

    Example:
        >>> cell, x = lf.gru_cell(8), torch.zeros(2, 3)
        >>> cell.predict(cell.init(lf.Key(0), x), (x, torch.zeros(2, 8))).shape
        torch.Size([2, 8])
    """
    return _layer(GRU, Form(hidden_size, 1, bias, False, weight_init, bias_init))


@constructor
def lstm_cell(
    hidden_size: PositiveInt, bias: bool = True, *, weight_init: Initializer = FAN_IN,
    bias_init: Initializer = FAN_IN,
) -> Layer:  # fmt: skip
    """Make one step of long short-term memory, whose state is a pair (h, c).

    x is an input (..., n_in), or (input, state); the state may be None for zeros. y is the new
    state, and h and c have the shape (..., hidden_size). Its params,
    `layers.recurrent_cell.Params`, are those of one layer of `lstm` in one direction:
    `params.cells[0][0]`.

    Args:
        weight_init: draws the matrices. The default is uniform within 1 / sqrt(hidden_size).

    Example:
        >>> cell, x = lf.lstm_cell(8), torch.zeros(2, 3)
        >>> h, c = cell.predict(cell.init(lf.Key(0), x), x)
        >>> h.shape, c.shape
        (torch.Size([2, 8]), torch.Size([2, 8]))
    """
    return _layer(LSTM, Form(hidden_size, 1, bias, False, weight_init, bias_init))


def _layer(family: Family, form: Form) -> Layer:
    family = family._replace(name=f"{family.name}_cell")
    run, draw = partial(forward, family=family), partial(init, family=family, form=form)
    return core.bare(Layer, run, backward, draw)
