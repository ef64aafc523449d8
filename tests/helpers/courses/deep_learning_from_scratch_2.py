"""Layers as the second book has them; `Embedding` overwrites repeated rows."""

from common.np import *  # noqa: F403  # as the book imports


class MatMul:
    def __init__(self, W):
        self.params, self.grads = [W], [np.zeros_like(W)]  # noqa: F405

    def forward(self, x):
        self.x = x
        return x @ self.params[0]

    def backward(self, dout):
        self.grads[0][...] = self.x.T @ dout
        return dout @ self.params[0].T


class Embedding:
    def __init__(self, W):
        self.params, self.grads = [W], [np.zeros_like(W)]  # noqa: F405

    def forward(self, idx):
        self.idx = idx
        return self.params[0][idx]

    def backward(self, dout):
        self.grads[0][...] = 0
        self.grads[0][self.idx] = dout


class RNN:
    def __init__(self, Wx, Wh, b):
        self.params = [Wx, Wh, b]

    def forward(self, x, h_prev):
        Wx, Wh, b = self.params
        h = np.tanh(h_prev @ Wh + x @ Wx + b)  # noqa: F405
        self.cache = x, h_prev, h
        return h

    def backward(self, dh_next):
        Wx, Wh, _ = self.params
        x, h_prev, h = self.cache
        dt = dh_next * (1 - h**2)
        self.grads = [x.T @ dt, h_prev.T @ dt, dt.sum(0)]
        return dt @ Wx.T, dt @ Wh.T
