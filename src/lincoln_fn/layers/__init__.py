"""The layers, each a module of pure functions.

from lincoln_fn.layers import dense
y, cache = dense.forward(params, x)
"""

from lincoln_fn.layers import dense, log_sigmoid, log_softmax, relu, sigmoid, softmax, tanh

__all__ = ["dense", "log_sigmoid", "log_softmax", "relu", "sigmoid", "softmax", "tanh"]
