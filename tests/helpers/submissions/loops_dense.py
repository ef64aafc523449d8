"""In loops of numpy: affine layers, activations and embeddings."""

import numpy as np

from helpers.submissions.submission import Code, normal

X, W, B = normal(6, 4), normal(4, 3, seed=1), normal(3, seed=2)


def affine_forward(x, w, b):
    out = np.zeros((len(x), w.shape[1]))
    for n in range(len(x)):
        for m in range(w.shape[1]):
            out[n, m] = np.sum(x[n].ravel() * w[:, m]) + b[m]
    return out, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros(w.shape[1])
    for n in range(len(x)):
        dx[n] = (w @ dout[n]).reshape(x[n].shape)
        dw = dw + np.outer(x[n], dout[n])
        db = db + dout[n]
    return dx, dw, db


AFFINE = Code("affine", affine_forward, affine_backward, (X, W, B))


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


def of_each(function, what, slope, says="", x=X):
    return Code(function.__name__, each(function), slopes(slope), (x,)).submission(what, says)


def embed_forward(w, x):
    out = np.zeros((*x.shape, w.shape[1]))
    for place in np.ndindex(*x.shape):
        out[place] = w[x[place]]
    return out, (x, w.shape)


def embed_backward(dout, cache):
    x, shape = cache
    dw = np.zeros(shape)
    for place in np.ndindex(*x.shape):
        dw[x[place]] += dout[place]
    return dw


WORDS = np.array([[0, 2, 2], [1, 0, 2], [2, 4, 1]])
EMBED = Code("embedding", embed_forward, embed_backward, (normal(5, 2),), {"x": WORDS})

WRONG = [
    AFFINE.submission("mean for a sum in dw", "averaged where it should be summed",
        {"return dx, dw": "return dx, dw / len(x)"}),
    AFFINE.submission("dw overwritten in the loop", "keeps one part where those of several",
        {"dw + np.outer": "np.outer"}),
    AFFINE.submission("db counts examples", "forgets g", {"db + dout[n]": "db + 1"}),
    AFFINE.submission("sign of dx", "wrong sign", {"return dx": "return -dx"}),
    AFFINE.submission("db not summed", "not summed over the batch", {"dw, db\n": "dw, dout\n"}),
    AFFINE.submission("a further term", r"is its gradient \+ 1/10 w sum\(g, 0, 1\)",
        {"return dx, dw": "return dx, dw + 0.1 * w * dout.sum()"}),
    of_each(sigmoid, "at x", lambda x, y, g: g * x * (1 - x), "is g x - g x x, not its gradient"),
    of_each(np.tanh, "1 - y", lambda x, y, g: g * (1 - y), r"is its gradient - g y \+ g y y"),
    of_each(relu,
        "mask of g", lambda x, y, g: g * (g > 0), "is not linear in g: is g a factor of every"),
    of_each(relu, "g forgotten", lambda x, y, g: float(x > 0), "forgets g"),
    of_each(leaky, "slopes exchanged", lambda x, y, g: g * (0.1 if x > 0 else 1),
        r"counts the path through mul\(\) \(in `0\.1 \* x`\) 109/10 times"),
    EMBED.submission("overwritten at repeated words", "keeps one part where those of several",
        {"] += ": "] = "}),
    EMBED.submission("averaged over the batch", "averaged where it should be summed",
        {"return dw": "return dw / len(x)"}),
]  # fmt: skip
RIGHT = [
    AFFINE.submission("images", arrays=(normal(5, 2, 2), W, B)),
    AFFINE.submission("rows"),
    AFFINE.submission("one example", arrays=(normal(1, 4), W, B)),
    of_each(sigmoid, "at x", lambda x, y, g: g * sigmoid(x) * (1 - sigmoid(x))),
    of_each(np.tanh, "1 - y^2", lambda x, y, g: g * (1 - y**2)),
    of_each(np.tanh, "by cosh", lambda x, y, g: g / np.cosh(x) ** 2),
    of_each(relu, "mask of x", lambda x, y, g: g * (x > 0)),
    of_each(relu, "mask of y", lambda x, y, g: g if y > 0 else 0.0, x=4 * X),
    of_each(leaky, "slopes", lambda x, y, g: g if x > 0 else 0.1 * g),
    of_each(np.exp, "y", lambda x, y, g: g * y),
    EMBED.submission("words of sentences"),
    EMBED.submission("no word twice", options={"x": np.array([3, 1, 0])}),
]
