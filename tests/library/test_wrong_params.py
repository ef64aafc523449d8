"""Parameters and inputs that are swapped, of another layer, or whose shapes do not fit."""

import attrs
import numpy as np
import torch
from helpers.given import KEY, PARAMS, SGD, X, misuses

import lincoln_fn as lf

D, D_PARAMS = lf.dense(4), PARAMS[0]
W, B = torch.ones(3, 4), torch.ones(4)
IMAGE, ROWS = torch.ones(2, 3, 5, 5), torch.ones(2, 3, 4)
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


def trained(layer, x, **changes):
    """Take a training step, by the faster functions."""
    state = lf.init_state(layer, SGD, KEY, x)
    state = attrs.evolve(state, params=attrs.evolve(state.params, **changes))
    y = layer.predict(layer.init(KEY, x), x)
    return lf.make_step(layer, lf.losses.mse(), SGD)(state, (x, torch.zeros_like(y)))


test_parameters_that_do_not_fit_are_named = misuses("""
trained(D, X, bias=B[:1]) -> ^dense ... bias of shape (4,) ... (1,)
NET.forward(X, PARAMS) -> ^serial ... params ... float32[6, 3]
tanh().forward(X, ()) -> ^tanh ... params () ... float32[6, 3] ... (params, x)
tanh().forward(None, X) -> ^tanh ... params () ... None
NET.forward(list(PARAMS), X) -> ^serial ... 2 entries ... got list ... write a tuple
NET.predict(STATE, X) -> ^serial ... TrainState( ... give its state.params
serial(relu(), OF_NUMPY).init(KEY, X) -> ^serial[1] mine(): expected init to return tensors ...
    ndarray at b
init_state(OF_NUMPY, SGD, KEY, X) -> ^init: expected init to return tensors ... ndarray at b ...
    torch.as_tensor
D.forward(nn.Linear(3, 4), X) -> ^dense ... Linear ... from_torch
D.forward(nn.Linear(3, 4).state_dict(), X) -> ^dense ... from_state_dict
D.forward(layers.layer_norm.Params(B, B), X) -> dense.Params ... Params(
STEP(OTHER_STATE, (X, T)) -> ^serial ... 2 entries
D.forward(layers.dense.Params(W.mT, B), X) -> ^dense ... bias of shape (3,) ... (4,)
D.forward(layers.dense.Params(W[None], B), X) -> ^dense ... weight of shape (n_in, n_out) ... (1, 3,
    4)
D.forward(layers.dense.Params(W.numpy(), B), X) -> ^dense ... tensors ... ndarray
D.forward(layers.dense.Params(None, B), X) -> ^dense ... weight ... None
D.forward(layers.dense.Params(W, B.double()), X) -> ^dense ... bias of dtype torch.float32 ...
    torch.float64
trained(D, X, bias=B.double()) -> ^dense ... bias of dtype torch.float32 ... torch.float64
changed(bilinear(4), (X, X), weight=W) -> ^bilinear ... weight ... (3, 4)
embedding(5, 2).forward(layers.embedding.Params(torch.ones(5)), T) -> ^embedding ... weight of shape
    ... (5,)
changed(group_norm(1), IMAGE, weight=torch.ones(3, 5)) -> ^group_norm ... weight
changed(layer_norm(), X, weight=1.0) -> ^layer_norm ... weight ... float
changed(prelu(), X, weight=torch.ones(1, 3)) -> ^prelu ... weight ... (1, 3)
changed(positional_embedding(9), torch.ones(2, 5, 3), weight=torch.ones(5)) -> ^positional_embedding
    ... weight
cells(lstm(4), weight_ih=torch.ones(16, 5)) -> ^lstm ... weight_ih ... (16, 5)
changed(multi_head_attention(2), ROWS, query=layers.dense.Params(torch.ones(4, 4), B[:1])) ->
    ^multi_head_attention ... bias of shape (4,) ... (1,)
changed(multi_head_attention(2), ROWS, query=layers.dense.Params(torch.ones(4, 6), torch.ones(6)))
    -> ^multi_head_attention[3] ... a key with ... got 4
step(state=TrainState((layers.dense.Params(W.numpy(), B.numpy()), ()), (), KEY, torch.tensor(0))) ->
    dense ... ndarray
STEP(STATE, (X.numpy(), T)) -> dense ... ndarray ... torch.as_tensor
STEP(STATE, (T, X)) -> dense ... int64
D.backward(D_PARAMS, D.forward(D_PARAMS, X), torch.ones(6, 4)) -> ^dense(4) ... cache
tanh().forward((), D.forward(D_PARAMS, X)) -> ^tanh ... x to be a tensor ... tuple
""")
