"""Gradients written in numpy, as students write them, and what the judge of the site says."""

import textwrap
from typing import NamedTuple


class Written(NamedTuple):
    """Functions of numpy.

    Args:
        given: their arguments.
        said: a part of what the judge says; "" if they are right.
        line: which is wrong; 0 where none is told.
    """

    name: str
    given: str
    source: str
    said: str = ""
    line: int = 0


def right(name, given, source):
    return Written(name, given, textwrap.dedent(source).lstrip())


def wrong(written, name, old, new, said, line):
    assert written.source.count(old) == 1, name
    return Written(name, written.given, written.source.replace(old, new), said, line)


AFFINE = right("affine", "x=(5, 3), w=(3, 4), b=(4,)", """
    import numpy as np

    def affine_forward(x, w, b):
        out = x @ w + b
        return out, (x, w)

    def affine_backward(dout, cache):
        x, w = cache
        dx = dout @ w.T
        dw = x.T @ dout
        db = dout.sum(axis=0)
        return dx, dw, db
""")  # fmt: skip
RELU = right("relu", "x=(4, 3)", """
    def relu_forward(x):
        return np.maximum(0, x), x

    def relu_backward(dout, x):
        dx = dout.copy()
        dx[x <= 0] = 0
        return dx
""")  # fmt: skip
SOFTMAX = right("softmax loss", "x=(5, 3), y=[0, 2, 1, 1, 0]", """
    def softmax_loss(x, y):
        shifted = x - x.max(axis=1, keepdims=True)
        probs = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
        n = x.shape[0]
        loss = -np.log(probs[np.arange(n), y]).mean()
        dx = probs.copy()
        dx[np.arange(n), y] -= 1
        dx /= n
        return loss, dx
""")  # fmt: skip
BATCH_NORM = right("batch norm", "x=(4, 3), gamma=(3,), beta=(3,), eps=1e-5", """
    def batchnorm_forward(x, gamma, beta, eps):
        mu = x.mean(axis=0)
        xmu = x - mu
        var = np.mean(xmu ** 2, axis=0)
        std = np.sqrt(var + eps)
        ivar = 1 / std
        xhat = xmu * ivar
        out = gamma * xhat + beta
        return out, (xhat, gamma, xmu, ivar, std, var, eps)

    def batchnorm_backward(dout, cache):
        xhat, gamma, xmu, ivar, std, var, eps = cache
        N, D = dout.shape
        dbeta = dout.sum(axis=0)
        dgamma = np.sum(dout * xhat, axis=0)
        dxhat = dout * gamma
        divar = np.sum(dxhat * xmu, axis=0)
        dstd = -divar / std ** 2
        dvar = 0.5 * dstd / np.sqrt(var + eps)
        dxmu = dxhat * ivar
        dxmu += 2 / N * xmu * dvar
        dmu = -dxmu.sum(axis=0)
        dx = dxmu + dmu / N
        return dx, dgamma, dbeta
""")  # fmt: skip
CONVOLUTION = right("convolution", "x=(2, 2, 4, 4), w=(3, 2, 3, 3), b=(3,)", """
    def conv_forward(x, w, b):
        N, C, H, W = x.shape
        F, _, HH, WW = w.shape
        xpad = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = np.zeros((N, F, H, W))
        for i in range(H):
            for j in range(W):
                patch = xpad[:, None, :, i:i + HH, j:j + WW]
                out[:, :, i, j] = np.sum(patch * w, axis=(2, 3, 4)) + b
        return out, (xpad, w)

    def conv_backward(dout, cache):
        xpad, w = cache
        N, F, H, W = dout.shape
        HH, WW = w.shape[2:]
        dxpad, dw = np.zeros_like(xpad), np.zeros_like(w)
        db = dout.sum(axis=(0, 2, 3))
        for i in range(H):
            for j in range(W):
                d = dout[:, :, i, j]
                dw += np.einsum("nf,nchw->fchw", d, xpad[:, :, i:i + HH, j:j + WW])
                dxpad[:, :, i:i + HH, j:j + WW] += np.einsum("nf,fchw->nchw", d, w)
        dx = dxpad[:, :, 1:-1, 1:-1]
        return dx, dw, db
""")  # fmt: skip
RECURRENT = right("recurrent", "x=(2, 3, 2), h0=(2, 4), wx=(2, 4), wh=(4, 4), b=(4,)", """
    def rnn_forward(x, h0, wx, wh, b):
        h, steps = h0, []
        for t in range(x.shape[1]):
            before, h = h, np.tanh(x[:, t] @ wx + h @ wh + b)
            steps.append((x[:, t], before, h))
        return np.stack([h for _, _, h in steps], axis=1), (steps, wx, wh)

    def rnn_backward(dh, cache):
        steps, wx, wh = cache
        dx = np.zeros((dh.shape[0], len(steps), wx.shape[0]))
        dwx, dwh, db = np.zeros_like(wx), np.zeros_like(wh), np.zeros(wh.shape[0])
        dnext = 0
        for t in reversed(range(len(steps))):
            xt, before, h = steps[t]
            da = (dh[:, t] + dnext) * (1 - h ** 2)
            dx[:, t] = da @ wx.T
            dwx += xt.T @ da
            dwh += before.T @ da
            db += da.sum(0)
            dnext = da @ wh.T
        return dx, dnext, dwx, dwh, db
""")  # fmt: skip
RIGHT = [AFFINE, RELU, SOFTMAX, BATCH_NORM, CONVOLUTION, RECURRENT]
WRONG = [
    wrong(AFFINE, "affine, averaged", "db = dout.sum(axis=0)", "db = dout.mean(axis=0)",
        "line 11: db is 1/5 times the gradient of b", 11),
    wrong(AFFINE, "affine, the sign", "dx = dout", "dx = -dout",
        "line 9: dx has the wrong sign: it is -1 times the gradient of x", 9),
    wrong(RELU, "relu, the other side", "x <= 0", "x > 0", "dx is not the gradient of x", 6),
    wrong(SOFTMAX, "softmax loss, summed", "    dx /= n\n", "", "dx is 5 times the gradient", 0),
    wrong(BATCH_NORM, "batch norm, a root", "0.5 * dstd", "dstd",
        "line 19: dvar is 2 times the gradient of var", 19),
    wrong(BATCH_NORM, "batch norm, the mean", "dxmu + dmu / N", "dxmu",
        "line 23: dx is not the gradient of x", 23),
    wrong(CONVOLUTION, "convolution, one step aside", "dxpad[:, :, 1:-1, 1:-1]",
        "dxpad[:, :, :-2, :-2]", "line 23: dx is not the gradient of x", 23),
    wrong(RECURRENT, "recurrent, cut off", "dnext = da @ wh.T", "dnext = 0 * da @ wh.T",
        "dwx is not the gradient", 0),
]  # fmt: skip
