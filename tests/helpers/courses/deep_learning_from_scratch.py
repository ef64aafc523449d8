"""Layers as the book has them; `Sigmoid` misses a factor."""

from common.functions import *  # noqa: F403  # as the book imports
from common.util import col2im, im2col


class Relu:
    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        return dout


class Sigmoid:
    def forward(self, x):
        self.out = sigmoid(x)  # noqa: F405
        return self.out

    def backward(self, dout):
        return dout * (1.0 - self.out)


class Affine:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW, self.db = self.x.T @ dout, dout.sum(0)
        return dout @ self.W.T


class SoftmaxWithLoss:
    def forward(self, x, t):
        self.t, self.y = t, softmax(x)  # noqa: F405
        return cross_entropy_error(self.y, t)  # noqa: F405

    def backward(self, dout=1):
        return (self.y - self.t) / len(self.t)


class Convolution:
    def __init__(self, W, b, stride=1, pad=0):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad

    def forward(self, x):
        f, _, high, wide = self.W.shape
        self.x = x
        rows = (x.shape[2] + 2 * self.pad - high) // self.stride + 1
        self.col = im2col(x, high, wide, self.stride, self.pad)
        out = self.col @ self.W.reshape(f, -1).T + self.b
        return out.reshape(len(x), rows, -1, f).transpose(0, 3, 1, 2)

    def backward(self, dout):
        f, _, high, wide = self.W.shape
        d = dout.transpose(0, 2, 3, 1).reshape(-1, f)
        self.db = d.sum(0)
        self.dW = (self.col.T @ d).T.reshape(self.W.shape)
        return col2im(d @ self.W.reshape(f, -1), self.x.shape, high, wide, self.stride, self.pad)
