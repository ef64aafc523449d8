"""In loops of numpy: affine layers, activations and embeddings."""

import numpy as np

from helpers.submissions.submission import Submission, normal
from lincoln_fn.testing import from_numpy

X, W, B = normal(6, 4), normal(4, 3, seed=1), normal(3, seed=2)


def submission(family, what, forward, backward, arrays, says, **options):
    x, *params = arrays
    made = from_numpy(forward, backward, **options)
    return Submission(f"{family}, in loops", what, made, x, says, tuple(params))


def affine_forward(x, w, b):
    out = np.zeros((len(x), w.shape[1]))
    for n in range(len(x)):
        for m in range(w.shape[1]):
            out[n, m] = np.sum(x[n].ravel() * w[:, m]) + b[m]
    return out, (x, w)


def affine(mistake):
    def affine_backward(dout, cache):
        x, w = cache
        dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros(w.shape[1])
        rows = range(len(x) - 1) if mistake == "last" else range(len(x))
        for n in rows:
            dx[n] = (w @ dout[n]).reshape(x[n].shape)
            if mistake == "overwritten":
                dw = np.outer(x[n], dout[n])
            else:
                dw = dw + np.outer(x[n], dout[n])
            db = db + (1 if mistake == "ones" else dout[n])
        dw = dw / len(x) if mistake == "mean of dw" else dw
        if mistake == "decay":
            dw = dw + 0.1 * w * dout.sum()
        return -dx if mistake == "sign" else dx, dw, dout if mistake == "unsummed" else db

    return affine_backward


def of_affine(mistake, what, says, x=X, w=W):
    return submission("affine", what, affine_forward, affine(mistake), (x, w, B), says)


def each(function):
    def forward(x):
        out = np.zeros_like(x)
        for place in np.ndindex(*x.shape):
            out[place] = function(x[place])
        return out, (x, out)

    return forward


def slopes(slope):
    def backward(dout, cache):
        dx = np.zeros_like(dout)
        for place in np.ndindex(*dout.shape):
            dx[place] = slope(cache[0][place], cache[1][place], dout[place])
        return dx

    return backward


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return max(x, 0.0)


def leaky(x):
    return x if x > 0 else 0.1 * x


def of_each(function, what, slope, says, x=X):
    family = function.__name__
    return submission(family, what, each(function), slopes(slope), (x,), says)


def embed_forward(w, x):
    out = np.zeros((*x.shape, w.shape[1]))
    for place in np.ndindex(*x.shape):
        out[place] = w[x[place]]
    return out, (x, w.shape)


def embed(mistake):
    def embed_backward(dout, cache):
        x, shape = cache
        dw = np.zeros(shape)
        for place in np.ndindex(*x.shape):
            if mistake == "overwritten":
                dw[x[place]] = dout[place]
            else:
                dw[x[place]] += dout[place]
        return dw / len(x) if mistake == "mean" else dw

    return embed_backward


WORDS = np.array([[0, 2, 2], [1, 0, 2], [2, 4, 1]])


def of_embedding(mistake, what, says, x=WORDS):
    made = embed_forward, embed(mistake), (normal(5, 2),)
    return submission("embedding", what, *made, says, x=x)


WRONG = [
    of_affine("mean of dw", "mean for a sum in dw", "averaged where it should be summed"),
    of_affine("overwritten", "dw overwritten in the loop", "keeps one part where those of several"),
    of_affine("ones", "db counts examples", "forgets g"),
    of_affine("sign", "sign of dx", "wrong sign"),
    of_affine("unsummed", "db not summed", "not summed over the batch"),
    of_affine("decay", "a further term", r"is its gradient \+ 1/10 w sum\(g, 0, 1\)"),
    of_each(sigmoid, "at x", lambda x, y, g: g * x * (1 - x), "is g x - g x x, not its gradient"),
    of_each(np.tanh, "1 - y", lambda x, y, g: g * (1 - y), r"is its gradient - g y \+ g y y"),
    of_each(relu,
        "mask of g", lambda x, y, g: g * (g > 0), "is not linear in g: is g a factor of every"),
    of_each(relu, "g forgotten", lambda x, y, g: float(x > 0), "forgets g"),
    of_each(leaky, "slopes exchanged", lambda x, y, g: g * (0.1 if x > 0 else 1),
        r"counts the path through mul\(\) \(in `0\.1 \* x`\) 109/10 times"),
    of_embedding("overwritten",
        "overwritten at repeated words", "keeps one part where those of several"),
    of_embedding("mean", "averaged over the batch", "averaged where it should be summed"),
]  # fmt: skip
RIGHT = [
    of_affine("", "images", "", normal(5, 2, 2)),
    of_affine("", "rows", ""),
    of_affine("", "one example", "", normal(1, 4)),
    of_affine("", "square", "", normal(3, 3), normal(3, 3, seed=1)),
    of_each(sigmoid, "y (1 - y)", lambda x, y, g: g * y * (1 - y), ""),
    of_each(sigmoid, "at x", lambda x, y, g: g * sigmoid(x) * (1 - sigmoid(x)), ""),
    of_each(np.tanh, "1 - y^2", lambda x, y, g: g * (1 - y**2), ""),
    of_each(np.tanh, "by cosh", lambda x, y, g: g / np.cosh(x) ** 2, ""),
    of_each(relu, "mask of x", lambda x, y, g: g * (x > 0), ""),
    of_each(relu, "mask of y", lambda x, y, g: g if y > 0 else 0.0, "", 4 * X),
    of_each(leaky, "slopes", lambda x, y, g: g if x > 0 else 0.1 * g, ""),
    of_each(np.exp, "y", lambda x, y, g: g * y, ""),
    of_each(np.sin, "cos x", lambda x, y, g: g * np.cos(x), ""),
    of_each(np.square, "2 x", lambda x, y, g: 2 * g * x, ""),
    of_embedding("", "words of sentences", ""),
    of_embedding("", "no word twice", "", np.array([3, 1, 0])),
]
