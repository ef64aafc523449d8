"""Recurrent layers, gates, attention, and networks."""

import math

import torch

import lincoln_fn as lf
from helpers.submissions.submission import Code, Submission, normal


def rnn(x, w, u, b):
    h = [x.new_zeros(len(x), 2)]
    for t in range(x.shape[1]):
        h.append(torch.tanh(x[:, t] @ w + h[-1] @ u + b))
    return torch.stack(h[1:], 1), (x, w, u, h)


def rnn_backward(g, cache):
    x, w, u, h = cache
    dx, dw, du, db, dh = torch.zeros_like(x), 0 * w, 0 * u, 0 * w[0], torch.zeros_like(h[0])
    for t in reversed(range(x.shape[1])):
        dz = (g[:, t] + dh) * (1 - h[t + 1] ** 2)
        dx[:, t] = dz @ w.mT
        dw, du = dw + x[:, t].mT @ dz, du + h[t].mT @ dz
        db = db + dz.sum(0)
        dh = dz @ u.mT
    return dx, dw, du, db


RNN = Code("rnn", rnn, rnn_backward, (normal(3, 5, 4), normal(4, 2, seed=1) / 2,
    normal(2, 2, seed=2), normal(2, seed=3)), np=torch)  # fmt: skip


def attention(x):
    q, k, v = x
    a = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
    return a @ v, (q, k, v, a)


def attention_backward(g, cache):
    q, k, v, a = cache
    da = g @ v.mT
    ds = a * (da - (da * a).sum(-1, keepdim=True)) * 0.5
    dq, dk, dv = ds @ k, ds.mT @ q, a.mT @ g
    return ((dq, dk, dv),)


QKV = (normal(2, 3, 4, seed=6), normal(2, 5, 4, seed=7), normal(2, 5, 3, seed=8))
SAME = {"arrays": (tuple(normal(2, 5, 4, seed=seed) for seed in (6, 7, 8)),)}
ATTENTION = Code("attention", attention, attention_backward, (QKV,), np=torch)


def gates(x, w):
    r, z = torch.sigmoid(x @ w).chunk(2, -1)
    return torch.tanh(r) * z, (x, w, r, z)


def gates_backward(g, cache):
    x, w, r, z = cache
    t = torch.tanh(r)
    da = torch.cat([g * z * (1 - t**2) * r * (1 - r), g * t * z * (1 - z)], -1)
    return da @ w.mT, x.mT @ da


GATES = Code("gates", gates, gates_backward, (normal(4, 5), normal(5, 6, seed=2)), np=torch)


def heads(x, w, v):
    """Values in two heads: the axes are exchanged, and back."""
    n, steps, _ = x.shape
    y = torch.tanh((x @ w).reshape(n, steps, 2, -1).transpose(1, 2))
    y = y.transpose(1, 2).reshape(n, steps, -1)
    return y @ v, (x, w, v, y)


def heads_backward(g, cache):
    x, w, v, y = cache
    dv = (g @ v.mT) * (1 - y**2)
    dws = (torch.einsum("nti,ntj->ij", a, d) for a, d in ((x, dv), (y, g)))
    return dv @ w.mT, *dws


HEADS = Code("heads", heads, heads_backward, (normal(2, 5, 4), normal(4, 6, seed=3),
    normal(6, 3, seed=4)), np=torch)  # fmt: skip


def two_layers(x, w, v):
    h = torch.relu(x @ w)
    return h @ v, (x, w, v, h)


def two_layers_backward(g, cache):
    x, w, v, h = cache
    dz = (g @ v.mT) * (h > 0)
    return dz @ w.mT, x.mT @ dz, h.mT @ g


TWO = Code("two layers", two_layers, two_layers_backward, (normal(6, 4), normal(4, 5, seed=3),
    normal(5, 3, seed=4)), np=torch)  # fmt: skip


WRONG_TANH = lf.tanh().replace(name="my_tanh()", backward=lambda p, y, g: (g * (1 - y), ()))
NO_TANH = lf.tanh().replace(name="my_tanh()", backward=lambda p, y, g: (g, ()))
WRONG_DENSE = lf.dense(4).replace(
    backward=lambda p, c, g: (
        g @ p.weight.mT,
        lf.evolve(p, weight=lf.dense(4).backward(p, c, g)[1].weight, bias=g.mean(0)),
    )
)


def skip(there_only):
    """Make y = f(x) + x as a composition whose loop back forgets one path."""
    parts = (lf.serial(lf.dense(3), lf.tanh()),)

    def there(visit, params, x):
        y, record = visit(0, params[0], x)
        return y + x, (record,)

    def back(visit, params, cache, g):
        dx, record = visit(0, params[0], cache[0], g)
        return (dx if there_only else dx - g), (record,)

    return lf.walk.composition("skip", parts, there, back)


def network(what, net, says, x=normal(5, 3)):  # noqa: B008  # a tensor
    return Submission("network", what, net, x, says)


WRONG = [
    RNN.submission("time's path missing", r"the gradient of", {"dz @ u.mT": "0 * dz"}),
    RNN.submission("tanh's derivative missing", r"the gradient of `x\[:, t\] @ w`, lacks the",
        {" * (1 - h[t + 1] ** 2)": ""}),
    RNN.submission("tanh's derivative at h for z", r"of `x\[:, t\] @ w`, is not right",
        {"1 - h[t + 1] ** 2": "1 - torch.tanh(h[t + 1]) ** 2"}),
    RNN.submission("U not transposed", "transposition", {"u.mT": "u"}),
    RNN.submission("dU by the new state", r"is wrong in 4 of 4 places, .* \(line \d+\)",
        {"h[t].mT": "h[t + 1].mT"}),
    RNN.submission("gradients overwritten", "use 1 of 5 only, as if overwritten",
        {"dw + x": "x", "du + h": "h", "db + dz": "dz"}),
    ATTENTION.submission("1/sqrt(d) missing", "is 2 times too large: summed where it should",
        {" * 0.5": ""}),
    ATTENTION.submission("1/sqrt(d) twice", r"ds, the gradient of `q @ k\.mT`, is 2 times",
        {"0.5": "0.25"}),
    ATTENTION.submission("softmax's sum missing", r"ds, the gradient of `q @ k\.mT`, has y in",
        {"(da - (da * a).sum(-1, keepdim=True))": "da"}),
    ATTENTION.submission("dq and dk exchanged", "are swapped", {"dq, dk, dv =": "dk, dq, dv ="},
        **SAME),
    ATTENTION.submission("dk zero", "zero", {"(dq, dk, dv)": "(dq, 0 * dk, dv)"}),
    ATTENTION.submission("dv without transposition", "transposition", {"a.mT": "a"}, **SAME),
    GATES.submission("derivative of one gate missing",
        "da, the gradient of `x @ w`, is not right", {" * z * (1 - z)": ""}),
    GATES.submission("1 - z for z (1 - z)", "da, the gradient of `x @ w`, lacks the factor",
        {"t * z * (1 - z)": "t * (1 - z)"}),
    HEADS.submission("axes exchanged once too often", r"dv, the gradient of `.*x @ w.*`, has the",
        {"1 - y**2)": "1 - y**2)\n    "
            "dv = dv.reshape(2, 5, 2, -1).transpose(1, 2).reshape(dv.shape)"}),
    TWO.submission("dv by z, not by relu(z)", "z, forward's h, is another value",
        {"return": "z = x @ w\n    return", "h.mT": "z.mT"}),
    TWO.submission("the last row left out", "is wrong in 12 of 20 places",
        {"x.mT @ dz": "x[:-1].mT @ dz[:-1]"}),
    network("wrong tanh", lf.serial(lf.dense(4), WRONG_TANH, lf.dense(2)),
        "has 1 - y in place of the derivative of"),
    network("tanh's derivative missing, nested",
        lf.serial(lf.dense(4), lf.serial(lf.relu(), NO_TANH), lf.dense(2)),
        r"1\.1 my_tanh\(\): dx .*derivative"),
    network("bias averaged", lf.serial(lf.tanh(), WRONG_DENSE, lf.relu()),
        r"1 dense\(4\): dparams.bias is 5 times too small"),
    network("residual's path missing", skip(True), "path"),
    network("residual's path with a sign", skip(False), "connected"),
]  # fmt: skip
RIGHT = [
    RNN.submission("as the chain rule has it"),
    ATTENTION.submission("as the chain rule has it"),
    GATES.submission("as the chain rule has it"),
    HEADS.submission("by hand"),
    TWO.submission("by hand"),
    network("of zeros", lf.serial(lf.dense(4), lf.relu(), lf.dense(2)), "", torch.zeros(5, 3)),
]
