"""Functions as the assignments have them; three are wrong."""

import numpy as np
from past.builtins import xrange


def affine_forward(x, w, b):
    return x.reshape(len(x), -1) @ w + b, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    dx = (dout @ w.T).reshape(x.shape)
    return dx, x.reshape(len(x), -1).T @ dout, dout.mean(axis=0)


def relu_forward(x):
    return np.maximum(0, x), x


def relu_backward(dout, cache):
    dx = dout
    dx[cache <= 0] = 0
    return dx


def softmax_loss(x, y):
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    rows = np.arange(len(x))
    loss = -np.log(p[rows, y]).mean()
    p[rows, y] -= 1
    return loss, p / len(x)


def batchnorm_forward(x, gamma, beta, bn_param):
    std = np.sqrt(x.var(0) + bn_param.get("eps", 1e-5))
    x_hat = (x - x.mean(0)) / std
    return gamma * x_hat + beta, (x_hat, std, gamma)


def batchnorm_backward(dout, cache):
    x_hat, std, gamma = cache
    return dout * gamma / std, (dout * x_hat).sum(0), dout.sum(0)


def max_pool_forward_naive(x, pool_param):
    high, wide, stride = (pool_param[k] for k in ("pool_height", "pool_width", "stride"))
    rows, columns = (x.shape[2] - high) // stride + 1, (x.shape[3] - wide) // stride + 1
    out = np.zeros((*x.shape[:2], rows, columns))
    for i in xrange(rows):
        for j in xrange(columns):
            window = x[:, :, i * stride : i * stride + high, j * stride : j * stride + wide]
            out[:, :, i, j] = window.max((2, 3))
    return out, (x, pool_param)


def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    high, wide, stride = (pool_param[k] for k in ("pool_height", "pool_width", "stride"))
    dx = np.zeros_like(x)
    for i in xrange(dout.shape[2]):
        for j in xrange(dout.shape[3]):
            where = (
                ...,
                slice(i * stride, i * stride + high),
                slice(j * stride, j * stride + wide),
            )
            window = x[where]
            mask = window == window.max((2, 3), keepdims=True)
            dx[where] = mask * dout[:, :, i : i + 1, j : j + 1]
    return dx
