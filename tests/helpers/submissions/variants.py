"""Further recurrent layers, attention, norms and convolutions."""

import math

import torch
from torch.nn import functional

from helpers.submissions.submission import Submission, layer, normal, trained

SEQUENCE = normal(2, 4, 4, seed=5)

IMAGES = normal(2, 4, 3, 3, seed=9)

GATES = (normal(4, 9, seed=3) / 2, normal(3, 9, seed=4) / 2)

QKV = tuple(normal(2, 5, 4, seed=seed) for seed in (6, 7, 8))

KERNEL = normal(4, 4, 3, 3, seed=10)


def gru(params, x):
    w, u = params
    h, hs, kept = x.new_zeros(len(x), 3), [], []
    for t in range(x.shape[1]):
        a, b = x[:, t] @ w, h @ u
        r, z = torch.sigmoid(a[:, :3] + b[:, :3]), torch.sigmoid(a[:, 3:6] + b[:, 3:6])
        n = torch.tanh(a[:, 6:] + r * b[:, 6:])
        kept.append((h, r, z, n, b[:, 6:]))
        h = (1 - z) * n + z * h
        hs.append(h)
    return torch.stack(hs, 1), (x, kept)


def gru_backward(mistake):
    def backward(params, cache, g):
        (w, u), (x, kept) = params, cache
        dw, du, dx, dh = 0 * w, 0 * u, torch.zeros_like(x), 0
        for t in reversed(range(x.shape[1])):
            h, r, z, n, b_n = kept[t]
            d = g[:, t] + dh
            dz = d * h if mistake == "n in dz" else d * (h - n)
            dn = d if mistake == "1 - z" else d * (1 - z)
            dan = dn * (1 - n**2)
            dr = dan if mistake == "b_n" else dan * b_n
            dar, daz = dr * r * (1 - r), dz * z * (1 - z)
            da = torch.cat([dar, daz, dan], 1)
            db = torch.cat([dar, daz, dan if mistake == "r" else dan * r], 1)
            dx[:, t] = da @ w.mT
            dw, du = dw + x[:, t].mT @ da, du + h.mT @ db
            dh = db @ u.mT + (0 if mistake == "skip" else d * z)
        return dx, (dw, du)

    return backward


def recurrent(mistake, what, says):
    return Submission("gru", what, trained(gru, gru_backward(mistake)), SEQUENCE, says, GATES)


def attention(x):
    q, k, v = x
    allowed = torch.ones(5, 5).tril().bool()
    scores = (q @ k.mT / math.sqrt(4)).masked_fill(~allowed, -math.inf)
    weights = torch.softmax(scores, -1)
    return weights @ v, (q, k, v, weights)


def attention_backward(mistake):
    def backward(cache, g):
        q, k, v, a = cache
        da = g @ v.mT
        axis = -2 if mistake == "axis" else -1
        ds = a * (da - (da * a).sum(axis, keepdim=True))
        scale = 1 if mistake == "scale" else 0.5
        dk = (ds if mistake == "transposition" else ds.mT) @ q
        return ds @ k * scale, dk * (1 if mistake == "scale of k" else scale), a.mT @ g

    return backward


def attentive(mistake, what, says):
    made = layer(attention, attention_backward(mistake))
    return Submission("causal attention", what, made, QKV, says)


def group_norm(x):
    groups = x.reshape(2, 2, -1)
    mean = groups.mean(-1, keepdim=True)
    std = torch.sqrt(groups.var(-1, unbiased=False, keepdim=True) + 1e-5)
    x_hat = (groups - mean) / std
    return x_hat.reshape(x.shape), (x_hat, std)


def grouped(what, dx, says):
    def backward(cache, g):
        x_hat, std = cache
        return dx(x_hat, std, g.reshape(x_hat.shape)).reshape(g.shape)

    return Submission("group norm", what, layer(group_norm, backward), IMAGES, says)


def mean(values):
    return values.mean(-1, keepdim=True)


def convolved(what, dx, says):
    def backward(w, x, g):
        return dx(w, g), torch.nn.grad.conv2d_weight(x, w.shape, g, padding=1)

    made = trained(lambda w, x: (functional.conv2d(x, w, padding=1), x), backward)
    return Submission("convolution", what, made, IMAGES, says, KERNEL)


WRONG = [
    recurrent("n in dz", "update gate: n missing in h - n", r"path .*sub\(\)"),
    recurrent("1 - z", "factor 1 - z missing", r"dn, the gradient of n, is the gradient of `\(1"),
    recurrent("b_n", "reset gate's factor missing", "dr, the gradient of r, is the gradient of"),
    recurrent("r", "r missing in db", "factor of mul"),
    recurrent("skip",
        "the state's own path missing", r"d, the gradient of `\(1 - z\) \* n`, misses the"),
    attentive("axis", "softmax's sum over the queries", r"ds, the gradient of `q @ k\.mT /"),
    attentive("scale", "1/sqrt(d) missing", "is 2 times too large: summed where it should"),
    attentive("scale of k",
        "1/sqrt(d) missing in dk", "is 2 times too large: summed where it should"),
    attentive("transposition",
        "dk without transposition", r"is wrong in 40 of 40 places"),
    grouped("variance constant", lambda x, s, d: (d - mean(d)) / s,
        "what it returns, the gradient of groups"),
    grouped("mean and variance constant", lambda x, s, d: d / s,
        r"misses the paths through mean\(\) \(in"),
    grouped("1/std twice", lambda x, s, d: (d - mean(d) - x * mean(d * x)) / s**2,
        "what it returns, the gradient of groups"),
    convolved("channels not exchanged", lambda w, g: functional.conv2d(g, w.flip(2, 3), padding=1),
        r"takes the other factor of conv2d\(\) \(in"),
    convolved("padding not cut off", lambda w, g: functional.conv_transpose2d(g, w),
        "has the right values, and more around them:"),
    convolved("kernel not flipped", lambda w, g: functional.conv2d(g, w.transpose(0, 1), padding=1),
        r"takes the other factor of conv2d\(\) \(in"),
]  # fmt: skip
RIGHT = [
    recurrent("", "as the chain rule has it", ""),
    attentive("", "as the chain rule has it", ""),
]
