"""In loops of numpy: norms, softmax and dropout."""

import numpy as np

from helpers.submissions.submission import Code, normal

GAMMA, BETA = normal(3, seed=3), normal(3, seed=4)


def norm_forward(x, gamma, beta, axis, eps):
    out, x_hat, std = np.zeros_like(x), np.zeros_like(x), []
    for n in range(x.shape[1 - axis]):
        line = (slice(None), n) if axis == 0 else (n, slice(None))
        std.append(np.sqrt(np.mean((x[line] - x[line].mean()) ** 2) + eps))
        x_hat[line] = (x[line] - x[line].mean()) / std[-1]
    for i, j in np.ndindex(*x.shape):
        out[i, j] = gamma[j] * x_hat[i, j] + beta[j]
    return out, (x, x_hat, std, gamma, axis)


def norm_backward(dout, cache):
    x, x_hat, std, gamma, axis = cache
    dx, dgamma, dbeta = np.zeros_like(x), np.zeros_like(gamma), np.zeros_like(gamma)
    for i, j in np.ndindex(*x.shape):
        dgamma[j] += dout[i, j] * x_hat[i, j]
        dbeta[j] += dout[i, j]
    for n in range(x.shape[1 - axis]):
        line = (slice(None), n) if axis == 0 else (n, slice(None))
        d, h = dout[line] * (gamma[n] if axis == 0 else gamma), x_hat[line]
        mean, variance = d.mean(), h * (d * h).mean()
        dx[line] = (d - mean - variance) / std[n]
    return dx, dgamma, dbeta


BATCH_NORM = Code("batch norm", norm_forward, norm_backward, (normal(6, 3), GAMMA, BETA),
    {"axis": 0, "eps": 1e-5})  # fmt: skip


def of_norm(what, axis=0, scale=1.0, eps=1e-5):
    arrays, options = (scale * normal(6, 3), GAMMA, BETA), {"axis": axis, "eps": eps}
    family = "layer norm" if axis else "batch norm"
    return BATCH_NORM.submission(what, family=family, arrays=arrays, options=options)


def group_forward(x, gamma, beta, groups):
    grouped = x.reshape(len(x), groups, -1)
    x_hat, std = np.zeros_like(grouped), np.zeros(grouped.shape[:2])
    for n, g in np.ndindex(*std.shape):
        std[n, g] = np.sqrt(grouped[n, g].var() + 1e-5)
        x_hat[n, g] = (grouped[n, g] - grouped[n, g].mean()) / std[n, g]
    x_hat = x_hat.reshape(x.shape)
    return gamma * x_hat + beta, (x_hat, std, gamma)


def group_backward(dout, cache):
    x_hat, std, gamma = cache
    shape = (*std.shape, -1)
    h, d = x_hat.reshape(shape), (dout * gamma).reshape(shape)
    dx = np.zeros_like(h)
    for n, g in np.ndindex(*std.shape):
        e, v = d[n, g], h[n, g]
        dx[n, g] = (e - e.mean() - v * (e * v).mean()) / std[n, g]
    dgamma, dbeta = ((dout * each).sum((0, 2, 3), keepdims=True) for each in (x_hat, 1))
    return dx.reshape(x_hat.shape), dgamma, dbeta


def of_channels(channels):
    scales = (normal(1, channels, 1, 1, seed=seed) for seed in (5, 6))
    return normal(2, channels, 3, 2), *scales


GROUP_NORM = Code("group norm", group_forward, group_backward, of_channels(4), {"groups": 2})


def softmax_forward(x):
    out = np.zeros_like(x)
    for n in range(len(x)):
        e = np.exp(x[n] - x[n].max())
        out[n] = e / e.sum()
    return out, out


def softmax_backward(dout, y):
    dx = np.zeros_like(y)
    for n in range(len(y)):
        dx[n] = y[n] * (dout[n] - np.sum(dout[n] * y[n]))
    return dx


SOFTMAX = Code("softmax", softmax_forward, softmax_backward, (normal(4, 5),))
ROW = "y[n] * (dout[n] - np.sum(dout[n] * y[n]))"


def dropout_forward(x, p, seed):
    mask = (np.random.default_rng(seed).random(x.shape) < p) / p
    return x * mask, mask


def dropout_backward(dout, mask):
    return dout * mask


DROPOUT = Code("dropout", dropout_forward, dropout_backward, (normal(5, 4),), {"p": 0.6, "seed": 3})

WRONG = [
    BATCH_NORM.submission("mean and variance constant", r"misses the paths through mean\(\)",
        {"d - mean - variance": "d"}),
    BATCH_NORM.submission("variance constant", r"misses the path through mean\(\) \(in `np\.mean",
        {" - variance": ""}),
    BATCH_NORM.submission("gamma missing in dx", "d, the gradient of .*, lacks the other factor",
        {" * (gamma[n] if axis == 0 else gamma)": ""}),
    BATCH_NORM.submission("dgamma averaged", "averaged where it should be summed",
        {"return dx, dgamma": "return dx, dgamma / len(x)"}),
    BATCH_NORM.submission("sign of the variance's part",
        r"has the wrong sign in the path through mean\(\)", {"- variance": "+ variance"}),
    BATCH_NORM.submission("N - 1 in the variance's part",
        r"counts the path through mean\(\) \(in", {"h).mean()": "h).sum() / (len(d) - 1)"}),
    BATCH_NORM.submission("eps missing in 1/std", "eps", {"std[n]": "np.sqrt(np.var(x[line]))"}),
    BATCH_NORM.submission("a matrix product for dgamma", "only the diagonal is right",
        {"return dx, dgamma": "return dx, x_hat.T @ dout"}),
    GROUP_NORM.submission("variance constant",
        r"misses the path through var\(\) \(in `grouped\[n", {" - v * (e * v).mean()": ""}),
    GROUP_NORM.submission("dgamma not summed over the columns", "not summed over axis 3",
        {"(0, 2, 3)": "(0, 2)"}),
    SOFTMAX.submission("diagonal alone", r"is its gradient \+ y sum\(g y, 1\) - g y y",
        {ROW: "dout[n] * y[n] * (1 - y[n])"}),
    DROPOUT.submission("1/keep missing", "is 1.66667 times too small", {"* mask": "* (mask > 0)"}),
    DROPOUT.submission("mask missing", "mask", {"* mask": "* 1.0"}),
    DROPOUT.submission("mask inverted", r"is its gradient \+ 5/3 g, and has the wrong sign in the",
        {"* mask": "* (mask == 0) / 0.6"}),
]  # fmt: skip
RIGHT = [
    of_norm("by features"),
    of_norm("large numbers", scale=50),
    of_norm("a tiny eps", eps=1e-8),
    of_norm("by examples, another eps", 1, eps=1e-2),
    GROUP_NORM.submission("two groups"),
    GROUP_NORM.submission("one group", options={"groups": 1}),
    GROUP_NORM.submission("groups of three", arrays=of_channels(6)),
    SOFTMAX.submission("sums"),
    SOFTMAX.submission("the Jacobian",
        changes={ROW: "(np.diag(y[n]) - np.outer(y[n], y[n])) @ dout[n]"}),
    SOFTMAX.submission("large scores", arrays=(20 * normal(4, 5),)),
    DROPOUT.submission("the mask"),
    DROPOUT.submission("all kept", options={"p": 1.0, "seed": 3}),
]  # fmt: skip
