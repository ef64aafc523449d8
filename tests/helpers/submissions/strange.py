"""Layers that are in no course, each with three mistakes to plant. Their np is numpy, or torch."""

import numpy as np

from helpers.submissions.submission import Code, normal


def gated_norm(x, a, b):
    r = np.sqrt((x * x).mean(-1, keepdims=True) + 0.1)
    s = 1 / (1 + np.exp(-a * x))
    y = s * x / r + b
    return y, (x, a, r, s)


def gated_norm_backward(g, cache):
    x, a, r, s = cache
    db = g.sum(0)
    ds = g * x / r
    dz = ds * s * (1 - s)
    da = (dz * x).sum(0)
    dr = (-g * s * x / r**2).sum(-1, keepdims=True)
    dx = g * s / r
    dx = dx + dz * a
    dx = dx + dr * x / r / x.shape[-1]
    return dx, da, db


def wave(x, a):
    u = np.cos(a * x)
    v = np.sin(x)
    return x * u + v**2 / 2, (x, a, u, v)


def wave_backward(g, cache):
    x, a, u, v = cache
    du = g * x
    dv = g * v
    dphase = -du * np.sin(a * x)
    da = (dphase * x).sum(0)
    dx = g * u
    dx = dx + dphase * a + dv * np.cos(x)
    return dx, da


def bilinear(x, u, v, w):
    p = x @ u
    q = x @ v
    return p * q + x @ w, (x, u, v, w, p, q)


def bilinear_backward(g, cache):
    x, u, v, w, p, q = cache
    dp = g * q
    dq = g * p
    du = x.T @ dp
    dv = x.T @ dq
    dw = x.T @ g
    dx = dp @ u.T
    dx = dx + dq @ v.T
    return dx + g @ w.T, du, dv, dw


def kernel_attention(x, wq, wk, wv):
    q = np.exp(x @ wq / 2)
    k = np.exp(x @ wk / 2)
    v = x @ wv
    m = k.T @ v
    z = q @ k.sum(0)
    y = q @ m / z[:, None]
    return y, (x, wq, wk, wv, q, k, v, m, z, y)


def kernel_attention_backward(g, cache):
    x, wq, wk, wv, q, k, v, m, z, y = cache
    dn = g / z[:, None]
    dz = -(g * y).sum(1) / z
    dm = q.T @ dn
    dq = dn @ m.T + dz[:, None] * k.sum(0)
    dk = v @ dm.T + (dz[:, None] * q).sum(0)
    dv = k @ dm
    da = dq * q / 2
    db = dk * k / 2
    dx = da @ wq.T
    dx = dx + db @ wk.T
    dx = dx + dv @ wv.T
    return dx, x.T @ da, x.T @ db, x.T @ dv


def mixture(x, w, v):
    e = np.exp(x @ w)
    p = e / e.sum(1, keepdims=True)
    h = x @ v
    return p * h, (x, w, v, p, h)


def mixture_backward(g, cache):
    x, w, v, p, h = cache
    dp = g * h
    dh = g * p
    inner = (dp * p).sum(1, keepdims=True)
    ds = p * (dp - inner)
    dw = x.T @ ds
    dv = x.T @ dh
    dx = ds @ w.T
    dx = dx + dh @ v.T
    return dx, dw, dv


def cubic_energy(x, a):
    n = (x**2).sum(1, keepdims=True)
    e = 1 / (1 + a * n)
    return x**3 * e, (x, a, n, e)


def cubic_energy_backward(g, cache):
    x, a, n, e = cache
    de = (g * x**3).sum(1, keepdims=True)
    dq = -de * e**2
    da = (dq * n).sum(0)
    dn = dq * a
    dx = 3 * g * x**2 * e
    dx = dx + 2 * x * dn
    return dx, da


def highway(x, w, b):
    z = x @ w + b
    t = z**2 / (1 + z**2)
    h = np.tanh(x)
    return t * h + (1 - t) * x, (x, w, z, t, h)


def highway_backward(g, cache):
    x, w, z, t, h = cache
    dt = g * (h - x)
    dh = g * t
    dz = dt * 2 * z / (1 + z**2) ** 2
    db = dz.sum(0)
    dw = x.T @ dz
    dx = g * (1 - t)
    dx = dx + dh * (1 - h**2)
    dx = dx + dz @ w.T
    return dx, dw, db


def cosines(x, w):
    n = np.sqrt((x**2).sum(1, keepdims=True))
    m = np.sqrt((w**2).sum(0))
    s = x @ w
    return s / n / m, (x, w, n, m, s)


def cosines_backward(g, cache):
    x, w, n, m, s = cache
    ds = g / n / m
    dn = -(g * s / m / n**2).sum(1, keepdims=True)
    dm = -(g * s / n / m**2).sum(0)
    dx = ds @ w.T
    dx = dx + dn * x / n
    dw = x.T @ ds
    dw = dw + dm * w / m
    return dx, dw


def log_mixer(x, w, v):
    z = x @ w
    c = z - z.mean(0)
    h = np.log(1 + c**2)
    return h @ v, (x, w, v, c, h)


def log_mixer_backward(g, cache):
    x, w, v, c, h = cache
    dv = h.T @ g
    dh = g @ v.T
    dc = dh * 2 * c / (1 + c**2)
    dz = dc - dc.mean(0)
    dw = x.T @ dz
    dx = dz @ w.T
    return dx, dw, dv


def walker(x, w, h):
    states, gates = [h], []
    for t in range(len(x)):
        gates.append(np.tanh(x[t] * w))
        states.append(states[t] * gates[t] + x[t])
    return states[-1], (x, w, states, gates)


def walker_backward(g, cache):
    x, w, states, gates = cache
    dx, dw, dh = 0 * x, 0 * w, g
    for t in reversed(range(len(x))):
        dgate = dh * states[t]
        dz = dgate * (1 - gates[t] ** 2)
        dw = dw + dz * x[t]
        dx[t] = dh + dz * w
        dh = dh * gates[t]
    return dx, dw, dh


X, ROW = normal(5, 4, seed=40), normal(4, seed=41)
W = [normal(4, 3, seed=42 + n) / 2 for n in range(3)]
SQUARE = normal(4, 4, seed=45) / 2

# Right code, and what three mistakes write in place of what.
LAYERS = [
    (Code("gated norm", gated_norm, gated_norm_backward, (X, ROW, normal(4, seed=46))), {
        "ds * s * (1 - s)": "ds * (1 - s)", "dr * x / r /": "dr * x /",
        "(dz * x).sum(0)": "(dz * x).mean(0)"}),
    (Code("wave", wave, wave_backward, (X, ROW)), {
        "-du * np.sin(a * x)": "du * np.sin(a * x)", "dv = g * v": "dv = 2 * g * v",
        "(dphase * x).sum(0)": "(dphase * a).sum(0)"}),
    (Code("bilinear", bilinear, bilinear_backward, (X, *W)), {
        "dq = g * p": "dq = g * q", "x.T @ dp": "x.T @ dp / len(x)",
        "dx + g @ w.T": "dx - g @ w.T"}),
    (Code("kernel attention", kernel_attention, kernel_attention_backward, (X, *W)), {
        "-(g * y).sum(1) / z": "-(g * y).sum(1)", "da = dq * q / 2": "da = dq * q",
        "dv = k @ dm": "dv = q @ dm"}),
    (Code("mixture", mixture, mixture_backward, (X, *W[:2])), {
        "(dp * p).sum(1": "dp.sum(1", "dh = g * p": "dh = g * h", "dx + dh @ v.T": "dx"}),
    (Code("cubic energy", cubic_energy, cubic_energy_backward, (X, ROW[:1].abs())), {
        "-de * e**2": "-de * e", "3 * g * x**2 * e": "g * x**2 * e", "2 * x * dn": "x * dn"}),
    (Code("highway", highway, highway_backward, (X, SQUARE, ROW)), {
        "g * (h - x)": "g * h", "(1 + z**2) ** 2": "(1 + z**2)",
        "dh * (1 - h**2)": "dh * (1 - h)"}),
    (Code("cosines", cosines, cosines_backward, (X, W[0])), {
        "/ m / n**2": "/ m / n", "dm * w / m": "dm * w", "ds = g / n / m": "ds = g / n"}),
    (Code("log mixer", log_mixer, log_mixer_backward, (X, W[0], normal(3, 2, seed=47))), {
        "dh * 2 * c /": "dh * c /", "dc - dc.mean(0)": "dc", "h.T @ g": "c.T @ g"}),
    (Code("walker", walker, walker_backward, (X, ROW, normal(4, seed=48))), {
        "dh * states[t]": "dh * states[t + 1]", "dw + dz * x[t]": "dz * x[t]",
        "dh = dh * gates[t]": "dh = dh"}),
]  # fmt: skip
