"""Layers and functions of the user's own, and the operations that run within a block."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lincoln_fn as lf


def layer_of(function, name="mine()", back=lambda g: g, **functions):
    """Make a layer y = function(x) without params, with dx = back(g)."""

    def forward(params, x):
        return function(x), None

    return lf.Layer(name, forward, lambda params, cache, g: (back(g), ()), **functions)


def twice():
    """Make a layer that gives x two times, as a tuple."""
    return layer_of(lambda x: (x, x), "twice()", lambda g: g[0] + g[1])


class Operations(TorchDispatchMode):
    """Lists the operations of torch that run within it, each with its arguments and its result."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, result))
        return result

    @property
    def names(self):
        return [function.overloadpacket.__name__ for function, *_ in self.calls]


class Cube(torch.autograd.Function):
    """A function as torch's tutorials write it, which torch.func does not know."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g
