"""Parameters and inputs that are swapped, of another layer, or whose shapes do not fit."""

from functools import partial

import attrs
import numpy as np
import torch
from torch import nn

import lincoln_fn as lf
from helpers.wrong.given import ACCURACY, KEY, NET, PARAMS, SGD, STATE, STEP, T, X, fit, step
from lincoln_fn.layers import dense, embedding, layer_norm, positional_embedding

D, D_PARAMS = lf.dense(4), PARAMS[0]
W, B = torch.ones(3, 4), torch.ones(4)
IMAGE = torch.ones(2, 3, 5, 5)
OF_NUMPY = D.replace(name="mine()", init=lambda key, x: {"b": np.ones(3)})
OTHER = lf.serial(lf.dense(7), lf.relu(), lf.dense(4), lf.log_softmax())
OTHER_STATE = lf.init_state(OTHER, SGD, KEY, X)


def changed(layer, x, **changes):
    """Take a layer's own params with other tensors in some places."""
    return layer.forward(attrs.evolve(layer.init(KEY, x), **changes), x)


def cells(layer, **changes):
    x = torch.ones(2, 3, 5)
    params = layer.init(KEY, x)
    ((cell,),) = params.cells
    return layer.forward(type(params)(((attrs.evolve(cell, **changes),),)), x)


def heads(**changes):
    layer, x = lf.multi_head_attention(2), torch.ones(2, 3, 4)
    return layer.forward(attrs.evolve(layer.init(KEY, x), **changes), x)


def trained(layer, x, **changes):
    """Take a training step, by the faster functions."""
    state = lf.init_state(layer, SGD, KEY, x)
    state = attrs.evolve(state, params=attrs.evolve(state.params, **changes))
    y = layer.predict(layer.init(KEY, x), x)
    return lf.make_step(layer, lf.losses.mse(), SGD)(state, (x, torch.zeros_like(y)))


# A bias of one number, which would broadcast: by layer, an input and the features it needs one for.
BIASED = {
    "dense": (D, X, 4),
    "bilinear": (lf.bilinear(4), (X, X), 4),
    "conv2d": (lf.conv2d(4, 3), IMAGE, 4),
    "conv_transpose2d": (lf.conv_transpose2d(4, 3), IMAGE, 4),
}

ROWS = {
    **{
        f"{name}: a bias of one number, {where}": (
            partial(call, layer, x, bias=B[:1]),
            name, f"bias of shape ({n},)", "(1,)",
        )
        for name, (layer, x, n) in BIASED.items()
        for where, call in (("in forward", changed), ("in a step", trained))
    },
    "params and x swapped, in serial": (lambda: NET.forward(X, PARAMS), "serial", "params",
        "float32[6, 3]"),
    "params and x swapped, without params": (lambda: lf.tanh().forward(X, ()), "tanh", "params ()",
        "float32[6, 3]", "(params, x)"),
    "x alone": (lambda: lf.tanh().forward(X, None), "tanh", "params"),
    "None for no params": (lambda: lf.tanh().forward(None, X), "tanh", "params ()", "None"),
    "a list for params": (lambda: NET.forward(list(PARAMS), X), "serial", "2 entries", "got list",
        "write a tuple"),
    "a dict for params": (lambda: D.forward({"weight": W, "bias": B}, X), "dense", "dense.Params",
        "dict"),
    "a state for params": (lambda: NET.predict(STATE, X), "serial", "TrainState(",
        "give its state.params"),
    "a state for dense's params": (lambda: D.predict(STATE, X), "dense", "TrainState",
        "state.params"),
    "an init that returns numpy": (lambda: lf.serial(lf.relu(), OF_NUMPY).init(KEY, X),
        "serial[1] mine(): expected init to return tensors", "ndarray at b"),
    "a single layer's init that returns numpy": (lambda: lf.init_state(OF_NUMPY, SGD, KEY, X),
        "init: expected init to return tensors", "ndarray at b", "torch.as_tensor"),
    "a torch parameter record": (lambda: D.forward(nn.Linear(3, 4), X), "dense", "Linear",
        "from_torch"),
    "a state_dict for params": (lambda: D.forward(nn.Linear(3, 4).state_dict(), X), "dense",
        "from_state_dict"),
    "another layer's params": (lambda: D.forward(layer_norm.Params(B, B), X), "dense.Params",
        "Params("),
    "another net's params": (lambda: NET.forward(OTHER_STATE.params, X), "serial", "2 entries"),
    "another net's state": (lambda: STEP(OTHER_STATE, (X, T)), "serial", "2 entries"),
    "another net's params in evaluate": (
        lambda: lf.evaluate(NET, OTHER_STATE.params, [(X, T)], ACCURACY), "serial", "2 entries"),
    "another net's state in fit": (lambda: fit(state=OTHER_STATE), "serial", "2 entries"),
    "dense: a bias that is a number": (lambda: D.forward(dense.Params(W, B[0]), X), "dense",
        "bias of shape (4,)", "()"),
    "dense: a row vector for a bias": (lambda: D.forward(dense.Params(W, B[None]), X), "dense",
        "bias of shape (4,)", "(1, 4)"),
    "dense: W transposed": (lambda: D.forward(dense.Params(W.mT, B), X), "dense",
        "bias of shape (3,)", "(4,)"),
    "dense: a square W transposed's bias": (lambda: D.forward(dense.Params(torch.ones(3, 3), B), X),
        "bias of shape (3,)", "(4,)"),
    "dense: W of three axes": (lambda: D.forward(dense.Params(W[None], B), X), "dense",
        "weight of shape (n_in, n_out)", "(1, 3, 4)"),
    "dense: W of one axis": (lambda: D.forward(dense.Params(B[:3], None), X), "dense",
        "weight of shape (n_in, n_out)", "(3,)"),
    "dense: weight and bias swapped": (lambda: D.forward(dense.Params(B, W), X), "dense",
        "weight of shape (n_in, n_out)", "(4,)"),
    "dense: W a numpy array": (lambda: D.forward(dense.Params(W.numpy(), B), X), "dense", "tensors",
        "ndarray"),
    "dense: no W": (lambda: D.forward(dense.Params(None, B), X), "dense", "weight", "None"),
    "dense: a list for the bias": (lambda: D.forward(dense.Params(W, [1.0] * 4), X), "dense",
        "bias", "list"),
    "dense: a number for the bias": (lambda: D.forward(dense.Params(W, 1.0), X), "dense", "bias",
        "float"),
    "dense: a bias in float64": (lambda: D.forward(dense.Params(W, B.double()), X), "dense",
        "bias of dtype torch.float32", "torch.float64"),
    "dense: bias in float64, in a step": (lambda: trained(D, X, bias=B.double()), "dense",
        "bias of dtype torch.float32", "torch.float64"),
    "bilinear: a matrix for the weight": (lambda: changed(lf.bilinear(4), (X, X), weight=W),
        "bilinear", "weight", "(3, 4)"),
    "conv: a bias in float64": (lambda: changed(lf.conv2d(4, 3), IMAGE, bias=B.double()), "conv2d",
        "bias of dtype"),
    "conv: a matrix for the weight": (lambda: changed(lf.conv2d(4, 3), IMAGE, weight=W), "conv",
        "weight", "(3, 4)"),
    "embedding: a table of one axis": (
        lambda: lf.embedding(5, 2).forward(embedding.Params(torch.ones(5)), T), "embedding",
        "weight of shape", "(5,)"),
    "batch_norm: a weight of one number": (lambda: changed(lf.batch_norm(), IMAGE, weight=B[:1]),
        "batch_norm", "(N, 1"),
    "group_norm: a weight of two axes": (
        lambda: changed(lf.group_norm(1), IMAGE, weight=torch.ones(3, 5)), "group_norm", "weight"),
    "layer_norm: a weight of one number": (lambda: changed(lf.layer_norm(), X, weight=B[:1]),
        "layer_norm", "(..., 1)"),
    "layer_norm: the weight as a number": (lambda: changed(lf.layer_norm(), X, weight=1.0),
        "layer_norm", "weight", "float"),
    "rms_norm: a weight of one number": (lambda: changed(lf.rms_norm(), X, weight=B[:1]),
        "rms_norm", "(..., 1)"),
    "prelu: slopes of another number": (lambda: changed(lf.prelu(), X, weight=B[:2]), "prelu",
        "(2"),
    "prelu: a matrix of slopes": (lambda: changed(lf.prelu(), X, weight=torch.ones(1, 3)), "prelu",
        "weight", "(1, 3)"),
    "positional_embedding: one feature": (lambda: positions(torch.ones(9, 1)),
        "positional_embedding", "(..., "),
    "positional_embedding: one axis": (lambda: positions(torch.ones(5)), "positional_embedding",
        "weight"),
    "lstm: a bias of one number": (lambda: cells(lf.lstm(4), bias_ih=B[:1]), "lstm", "bias",
        "(16,)", "(1,)"),
    "lstm: W_ih transposed": (lambda: cells(lf.lstm(4), weight_ih=torch.ones(16, 5)), "lstm",
        "weight_ih", "(16, 5)"),
    "gru: a bias of one number": (lambda: cells(lf.gru(4), bias_hh=B[:1]), "gru", "bias", "(12,)",
        "(1,)"),
    "rnn: a bias of one number": (lambda: cells(lf.rnn(4), bias_ih=B[:1]), "rnn", "bias", "(4,)",
        "(1,)"),
    "rnn_cell: a bias of one number": (lambda: cell(lf.rnn_cell(4), bias_ih=B[:1]), "rnn_cell",
        "bias", "(4,)", "(1,)"),
    "lstm_cell: a bias of one number": (lambda: cell(lf.lstm_cell(4), bias_hh=B[:1]), "lstm_cell",
        "bias", "(16,)", "(1,)"),
    "multi_head_attention: a bias of one number": (
        lambda: heads(query=dense.Params(torch.ones(4, 4), B[:1])), "multi_head_attention",
        "bias of shape (4,)", "(1,)"),
    "multi_head_attention: a query of another size": (
        lambda: heads(query=dense.Params(torch.ones(4, 6), torch.ones(6))),
        "multi_head_attention[3]", "a key with", "got 4"),
    "multi_head_attention: an output's bias": (
        lambda: heads(output=dense.Params(torch.ones(4, 4), B[:1])), "multi_head_attention",
        "bias of shape (4,)", "(1,)"),
    "multi_head_attention: a tuple for dense.Params": (lambda: heads(query=(torch.ones(4, 4), B)),
        "multi_head_attention", "dense.Params"),
    "step: params as numpy": (lambda: step(state=lf.TrainState(
                (dense.Params(W.numpy(), B.numpy()), ()), (), KEY, torch.tensor(0))), "dense",
        "ndarray"),
    "step: x as numpy": (lambda: STEP(STATE, (X.numpy(), T)), "dense", "ndarray",
        "torch.as_tensor"),
    "step: x and target swapped": (lambda: STEP(STATE, (T, X)), "dense", "int64"),
    "backward: the output for the cache": (
        lambda: D.backward(D_PARAMS, D.forward(D_PARAMS, X), torch.ones(6, 4)), "dense(4)",
        "cache"),
    "forward's pair as y": (lambda: lf.tanh().forward((), D.forward(D_PARAMS, X)), "tanh",
        "x to be a tensor", "tuple"),
}  # fmt: skip


def positions(weight):
    layer = lf.positional_embedding(9)
    return layer.forward(positional_embedding.Params(weight), torch.ones(2, 5, 3))


def cell(layer, **changes):
    return layer.forward(attrs.evolve(layer.init(KEY, X), **changes), X)
