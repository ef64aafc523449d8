"""In loops of numpy: norms, softmax and dropout."""

import numpy as np

from helpers.submissions.loops_dense import submission
from helpers.submissions.submission import normal

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


def norm(m):
    def norm_backward(dout, cache):
        x, x_hat, std, gamma, axis = cache
        dx, dgamma, dbeta = np.zeros_like(x), np.zeros_like(gamma), np.zeros_like(gamma)
        for i, j in np.ndindex(*x.shape):
            s = std[j] if axis == 0 else std[i]
            dgamma[j] += dout[i, j] * (x_hat * s if m == "1/std" else x_hat)[i, j]
            dbeta[j] += dout[i, j]
        for n in range(x.shape[1 - axis]):
            line = (slice(None), n) if axis == 0 else (n, slice(None))
            scale = 1 if m == "gamma" else gamma[n] if axis == 0 else gamma
            d, h = dout[line] * scale, x_hat[line]
            s = np.sqrt(np.var(x[line])) if m == "eps" else std[n]
            h = (x[line] - x[line].mean()) / np.std(x[line]) if m == "eps of x_hat" else h
            mean, variance = d.mean(), h * (d * h).mean()
            if m == "sum":
                mean, variance = d.sum(), h * (d * h).sum()
            elif m == "N - 1":
                variance = variance * len(d) / (len(d) - 1)
            elif m == "power":
                variance = variance * s
            kept = {"mean": (0, 1), "variance": (1, 0), "both": (0, 0), "sign": (1, -1)}
            a, b = kept.get(m, (1, 1))
            dx[line] = (d - a * mean - b * variance) / s
        if m == "dot":
            dgamma = x_hat.T @ dout
        return dx, dgamma / len(x) if m == "dgamma averaged" else dgamma, dbeta

    return norm_backward


def of_norm(m, what, says, axis=0, x=normal(6, 3), eps=1e-5):  # noqa: B008  # a tensor
    family = "layer norm" if axis else "batch norm"
    arrays = (x, GAMMA, BETA)
    return submission(family, what, norm_forward, norm(m), arrays, says, axis=axis, eps=eps)


def group_forward(x, gamma, beta, groups):
    grouped = x.reshape(len(x), groups, -1)
    x_hat, std = np.zeros_like(grouped), np.zeros(grouped.shape[:2])
    for n, g in np.ndindex(*std.shape):
        std[n, g] = np.sqrt(grouped[n, g].var() + 1e-5)
        x_hat[n, g] = (grouped[n, g] - grouped[n, g].mean()) / std[n, g]
    x_hat = x_hat.reshape(x.shape)
    return gamma * x_hat + beta, (x_hat, std, gamma)


def group(m):
    def group_backward(dout, cache):
        x_hat, std, gamma = cache
        shape = (*std.shape, -1)
        h, d = x_hat.reshape(shape), (dout * gamma).reshape(shape)
        dx = np.zeros_like(h)
        for n, g in np.ndindex(*std.shape):
            e, v = d[n, g], h[n, g]
            dx[n, g] = (e - e.mean() - (0 if m == "variance" else v * (e * v).mean())) / std[n, g]
        axes = (0, 2) if m == "axes" else (0, 2, 3)
        dgamma = (dout * x_hat).sum(axes, keepdims=True)
        return dx.reshape(x_hat.shape), dgamma, dout.sum((0, 2, 3), keepdims=True)

    return group_backward


def of_group(m, what, says, groups=2, channels=4):
    scales = normal(1, channels, 1, 1, seed=5), normal(1, channels, 1, 1, seed=6)
    made = group_forward, group(m), (normal(2, channels, 3, 2), *scales)
    return submission("group norm", what, *made, says, groups=groups)


def softmax_forward(x):
    out = np.zeros_like(x)
    for n in range(len(x)):
        e = np.exp(x[n] - x[n].max())
        out[n] = e / e.sum()
    return out, out


def softmax(m):
    def softmax_backward(dout, y):
        dx = np.zeros_like(y)
        for n in range(len(y)):
            if m == "jacobian":
                dx[n] = (np.diag(y[n]) - np.outer(y[n], y[n])) @ dout[n]
            elif m == "diagonal":
                dx[n] = dout[n] * y[n] * (1 - y[n])
            else:
                inner = np.sum(dout[n]) if m == "weights" else np.sum(dout[n] * y[n])
                dx[n] = y[n] * (dout[n] - inner)
        return dx

    return softmax_backward


def of_softmax(m, what, says, x=normal(4, 5)):  # noqa: B008  # a tensor
    return submission("softmax", what, softmax_forward, softmax(m), (x,), says)


def dropout_forward(x, p, seed):
    mask = (np.random.default_rng(seed).random(x.shape) < p) / p
    return x * mask, mask


def of_dropout(what, backward, says, p=0.6):
    made = dropout_forward, backward, (normal(5, 4),)
    return submission("dropout", what, *made, says, p=p, seed=3)


WRONG = [
    of_norm("both", "mean and variance constant", r"misses the paths through mean\(\)"),
    of_norm("variance", "variance constant", r"misses the path through mean\(\) \(in `np\.mean"),
    of_norm("gamma", "gamma missing in dx", r"d, the gradient of .*, lacks the other factor"),
    of_norm("dgamma averaged", "dgamma averaged", "averaged where it should be summed"),
    of_norm("sign", "sign of the variance's part",
        r"has the wrong sign in the path through mean\(\)"),
    of_norm("N - 1", "N - 1 in the variance's part", r"counts the path through mean\(\) \(in"),
    of_norm("eps", "eps missing in 1/std", "eps"),
    of_norm("dot", "a matrix product for dgamma", "only the diagonal is right"),
    of_group("variance", "variance constant", r"misses the path through var\(\) \(in `grouped\[n"),
    of_group("axes", "dgamma not summed over the columns", "not summed over axis 3"),
    of_softmax("diagonal", "diagonal alone", r"is its gradient \+ y sum\(g y, 1\) - g y y"),
    of_dropout("1/keep missing", lambda dout, mask: dout * (mask > 0),
        r"is 1\.66667 times too small"),
    of_dropout("mask missing", lambda dout, mask: dout * 1.0, "mask"),
    of_dropout("mask inverted", lambda dout, mask: dout * (mask == 0) / 0.6,
        r"is its gradient \+ 5/3 g, and has the wrong sign in the path"),
]  # fmt: skip
RIGHT = [
    of_norm("", "by features", ""),
    of_norm("", "large numbers", "", x=50 * normal(6, 3)),
    of_norm("", "small numbers", "", x=0.01 * normal(6, 3)),
    of_norm("", "another eps", "", eps=1e-3),
    of_norm("", "a tiny eps", "", eps=1e-8),
    of_norm("", "by examples", "", 1),
    of_norm("", "by examples, another eps", "", 1, eps=1e-2),
    of_group("", "two groups", ""),
    of_group("", "one group", "", 1),
    of_group("", "groups of three", "", 2, 6),
    of_softmax("", "sums", ""),
    of_softmax("jacobian", "the Jacobian", ""),
    of_softmax("", "two classes", "", normal(4, 2)),
    of_softmax("", "large scores", "", 20 * normal(4, 5)),
    of_dropout("the mask", lambda dout, mask: dout * mask, ""),
    of_dropout("few kept", lambda dout, mask: dout * mask, "", 0.3),
    of_dropout("all kept", lambda dout, mask: dout * mask, "", 1.0),
]
