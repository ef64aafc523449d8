"""The checks that are generated from the signatures of a layer's functions."""

import inspect
import pickle
import re
import traceback

import pytest
import torch

from lincoln_fn import LayerError, layers
from lincoln_fn.layers import elu, layer_norm, rrelu, softmax, tanh

X = torch.ones(2, 3)
OF_ELU = elu.Cache(X, 1.0)
OF_NORM = layer_norm.forward(layer_norm.Params(None, None), X)[1]
NONE = layer_norm.Params(None, None)
WRONG = {
    "tanh: expected params (), got (1,)": lambda: tanh.forward((1,), X),
    "tanh: expected x to be a tensor, got int; convert it by torch.tensor":
        lambda: tanh.forward((), 3),
    "tanh: expected x of a floating dtype, got torch.int64; convert it first, say by x.float()":
        lambda: tanh.forward((), X.long()),
    "layer_norm: expected params layer_norm.Params, got ()": lambda: layer_norm.forward((), X),
    "layer_norm: expected params layer_norm.Params, got (); ":
        lambda: layer_norm.backward((), OF_NORM, X),
    "tanh: expected the cache of its own forward, got 3": lambda: tanh.backward((), 3, X),
    "elu: expected the cache of its own forward, got ()": lambda: elu.backward((), (), X),
    "elu: expected g to be a tensor, got NoneType": lambda: elu.backward((), OF_ELU, None),
    "elu: expected g of shape (2, 3), got (3,)": lambda: elu.backward((), OF_ELU, X[0]),
    "elu: expected g of dtype torch.float32, got torch.float64":
        lambda: elu.backward((), OF_ELU, X.double()),
    "elu: expected g on cpu, got meta": lambda: elu.backward((), OF_ELU, X.to("meta")),
    # The cache holds rstd, too: g is like the tensor of its own shape.
    "layer_norm: expected g of shape (2, 3), got (2, 1)":
        lambda: layer_norm.backward(NONE, OF_NORM, X[:, :1]),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_the_signature_is_refused(message):
    with pytest.raises(LayerError, match=f"^{re.escape(message.rstrip('; '))}"):
        WRONG[message]()


def test_a_checked_function_is_the_function():
    for module, key in ((elu, "forward"), (softmax, "backward"), (rrelu, "predict")):
        function = getattr(module, key)
        assert (function.__name__, function.__module__) == (key, module.__name__)
        assert function.__doc__.startswith(("Compute", "Return"))
        assert pickle.loads(pickle.dumps(function)) is function
    assert list(inspect.signature(elu.forward).parameters) == ["params", "x", "alpha"]
    assert torch.equal(elu.forward((), -X, alpha=0.5)[0], 0.5 * torch.expm1(-X))


def test_a_traceback_shows_the_layers_file():
    with pytest.raises(LayerError) as caught:
        layers.tanh.forward((), None)
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert files[1].endswith("layers/tanh.py")
