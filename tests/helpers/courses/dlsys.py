"""A small needle: `divide` misses the square of its denominator."""

import numpy as np


class Tensor:
    def __init__(self, data, inputs=(), gradient=None):
        self.data, self.inputs, self.gradient, self.grad = np.asarray(data), inputs, gradient, None

    def numpy(self):
        return self.data

    def backward(self, out_grad):
        for tensor, grad in zip(self.inputs, self.gradient(out_grad.data), strict=True):
            tensor.grad = Tensor(grad if tensor.grad is None else tensor.grad.data + grad)


def relu(a):
    return Tensor(np.maximum(a.data, 0), (a,), lambda g: (g * (a.data > 0),))


def exp(a):
    return Tensor(np.exp(a.data), (a,), lambda g: (g * np.exp(a.data),))


def divide(a, b):
    x, y = a.data, b.data
    return Tensor(x / y, (a, b), lambda g: (g / y, -g * x / y))


def matmul(a, b):
    x, y = a.data, b.data

    def gradient(g):
        dy = np.swapaxes(x, -1, -2) @ g
        return g @ y.T, dy.reshape(-1, *y.shape).sum(0)

    return Tensor(x @ y, (a, b), gradient)


def logsumexp(a, axes):
    e = np.exp(a.data)
    total = e.sum(axes)
    return Tensor(np.log(total), (a,), lambda g: (np.expand_dims(g, axes) * e,))
