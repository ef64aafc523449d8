"""Recurrent layers, attention, and networks."""

import math

import torch

import lincoln_fn as lf
from helpers.submissions.submission import Submission, layer, normal, trained

X = normal(3, 5, 4)
W = (normal(4, 2, seed=1) / 2, normal(2, 2, seed=2), normal(2, seed=3))


def rnn(params, x):
    w, u, b = params
    h = [x.new_zeros(len(x), 2)]
    for t in range(x.shape[1]):
        h.append(torch.tanh(x[:, t] @ w + h[-1] @ u + b))
    return torch.stack(h[1:], 1), (x, h)


def rnn_backward(
    dz_of=lambda h, dh: dh * (1 - h**2), dh_of=lambda dz, u, g: dz @ u.mT, before=lambda h, t: h[t],
    g_of=lambda g, t, dh: g[:, t] + dh, add=lambda total, part: total + part,
):  # fmt: skip
    def backward(params, cache, g):
        w, u, b = params
        x, h = cache
        dw, du, db, dx = 0 * w, 0 * u, 0 * b, torch.zeros_like(x)
        dh = torch.zeros_like(h[0])
        for t in reversed(range(x.shape[1])):
            dz = dz_of(h[t + 1], g_of(g, t, dh))
            dx[:, t] = dz @ w.mT
            dw, du = add(dw, x[:, t].mT @ dz), add(du, before(h, t).mT @ dz)
            db = add(db, dz.sum(0))
            dh = dh_of(dz, u, g)
        return dx, (dw, du, db)

    return backward


def recurrent(what, says, **changes):
    return Submission("rnn", what, trained(rnn, rnn_backward(**changes)), X, says, W)


QKV = (normal(2, 3, 4, seed=6), normal(2, 5, 4, seed=7), normal(2, 5, 3, seed=8))
SAME = (normal(2, 5, 4, seed=6), normal(2, 5, 4, seed=7), normal(2, 5, 4, seed=8))


def attention(x):
    q, k, v = x
    a = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
    return a @ v, (q, k, v, a)


def attention_backward(
    scale=0.5, sum_=True, order=lambda dq, dk, dv: (dq, dk, dv), dv_of=lambda a, g: a.mT @ g
):
    def backward(cache, g):
        q, k, v, a = cache
        da = g @ v.mT
        ds = a * (da - (da * a).sum(-1, keepdim=True) if sum_ else da) * scale
        return order(ds @ k, ds.mT @ q, dv_of(a, g))

    return backward


def attentive(what, says, x=QKV, **changes):
    return Submission("attention", what, layer(attention, attention_backward(**changes)), x, says)


WRONG_TANH = lf.tanh().replace(name="my_tanh()", backward=lambda p, y, g: (g * (1 - y), ()))
NO_TANH = lf.tanh().replace(name="my_tanh()", backward=lambda p, y, g: (g, ()))
WRONG_DENSE = lf.dense(4).replace(
    backward=lambda p, c, g: (
        g @ p.weight.mT,
        lf.evolve(p, weight=lf.dense(4).backward(p, c, g)[1].weight, bias=g.mean(0)),
    )
)
FLAT = normal(5, 3)


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


def network(what, net, says, x=FLAT):
    return Submission("network", what, net, x, says)


WRONG = [
    recurrent("time's path missing",
        "what it returns, the gradient of `torch", dh_of=lambda dz, u, g: 0 * dz),
    recurrent("tanh's derivative missing",
        r"the gradient of `x\[:, t\] @ w`, lacks the", dz_of=lambda h, dh: dh),
    recurrent("tanh's derivative at h for z", r"of `x\[:, t\] @ w`, is not right",
        dz_of=lambda h, dh: dh * (1 - torch.tanh(h) ** 2)),
    recurrent("U not transposed", "transposition", dh_of=lambda dz, u, g: dz @ u),
    recurrent("dU by the new state", r"is wrong in 4 of 4 places, .* \(line \d+\)",
        before=lambda h, t: h[t + 1]),
    recurrent("gradients overwritten",
        "use 1 of 5 only, as if overwritten", add=lambda total, part: part),
    attentive("1/sqrt(d) missing", "is 2 times too large: summed where it should", scale=1.0),
    attentive("1/sqrt(d) twice", r"ds, the gradient of `q @ k\.mT`, is 2 times", scale=0.25),
    attentive("softmax's sum missing", r"ds, the gradient of `q @ k\.mT`, has y in", sum_=False),
    attentive("dq and dk exchanged", "are swapped", SAME, order=lambda q, k, v: (k, q, v)),
    attentive("dk zero", "zero", order=lambda q, k, v: (q, 0 * k, v)),
    attentive("dv without transposition", "transposition", SAME, dv_of=lambda a, g: a @ g),
    attentive("sign of dq", "wrong sign", order=lambda q, k, v: (-q, k, v)),
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
    recurrent("as the chain rule has it", ""),
    attentive("as the chain rule has it", ""),
    network("of zeros", lf.serial(lf.dense(4), lf.relu(), lf.dense(2)), "", torch.zeros(5, 3)),
]
