"""In loops of numpy: recurrent layers, and losses."""

import numpy as np

from helpers.submissions.loops_dense import sigmoid, submission
from helpers.submissions.submission import normal


def rnn_forward(x, h0, wx, wh, b):
    h, states = h0, []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ wx + h @ wh + b)
        states.append(h)
    return np.stack(states, 1), (x, h0, wx, wh, states)


def rnn(m):
    def rnn_backward(dout, cache):
        x, h0, wx, wh, states = cache
        dx, dwx, dwh, db = np.zeros_like(x), 0 * wx, 0 * wh, 0 * wh[0]
        dh = np.zeros_like(h0)
        for t in reversed(range(x.shape[1])):
            before = states[t - 1] if t else h0
            d = dout[:, t] + (0 if m == "time" else dh)
            d = d * {"y": 1 - states[t], "none": 1}.get(m, 1 - states[t] ** 2)
            dx[:, t] = d @ wx.T
            dwx = x[:, t].T @ d + (0 if m == "overwritten" else dwx)
            dwh = dwh + (states[t] if m == "new" else before).T @ d
            db = db + (d.mean(0) if m == "mean" else d.sum(0))
            dh = d @ (wh if m == "transposed" else wh.T)
        return dx, dh, dwx, dwh, db

    return rnn_backward


def of_rnn(m, what, says, steps=4):
    arrays = normal(2, steps, 4), normal(2, 3, seed=1), normal(4, 3, seed=2), normal(3, 3, seed=3)
    return submission("rnn", what, rnn_forward, rnn(m), (*arrays, normal(3, seed=4)), says)


def lstm_forward(x, h, c, wx, wh, b):
    a = x @ wx + h @ wh + b
    n = h.shape[1]
    i, f, o = sigmoid(a[:, :n]), sigmoid(a[:, n : 2 * n]), sigmoid(a[:, 2 * n : 3 * n])
    g = np.tanh(a[:, 3 * n :])
    new = f * c + i * g
    return o * np.tanh(new), new, (x, h, c, wx, wh, i, f, o, g, new, a)


def lstm(m):
    def lstm_backward(dh, dc, cache):
        x, h, c, wx, wh, i, f, o, g, new, a = cache
        slope = {"tanh": 1, "c": 1 - new**2}.get(m, 1 - np.tanh(new) ** 2)
        d = dc + dh * o * slope
        df, di, do = d * c, d * (c if m == "i by c" else g), dh * np.tanh(new)
        dg = d * i
        n = h.shape[1]
        if m == "of df":
            daf = df * sigmoid(df) * (1 - sigmoid(df))
        elif m == "at f":
            daf = df * sigmoid(f) * (1 - sigmoid(f))
        else:
            daf = df * f * (1 - f)
        dag = dg * (1 - g if m == "1 - g" else 1 - g**2)
        parts = [di * i * (1 - i), daf, do * o * (1 - o), dag]
        if m == "exchanged":
            parts[0], parts[1] = parts[1], parts[0]
        da = np.zeros_like(a)
        for k, part in enumerate(parts):
            da[:, k * n : (k + 1) * n] = part
        dwh = (np.tanh(new) * o if m == "new" else h).T @ da
        return da @ wx.T, da @ wh.T, d if m == "f" else d * f, x.T @ da, dwh, da.sum(0)

    return lstm_backward


def of_lstm(m, what, says):
    arrays = normal(3, 4), normal(3, 2, seed=1), normal(3, 2, seed=2), normal(4, 8, seed=3)
    arrays = (*arrays, normal(2, 8, seed=4), normal(8, seed=5))
    return submission("lstm step", what, lstm_forward, lstm(m), arrays, says)


X, Y = normal(6, 4).double().numpy(), np.array([0, 2, 1, 1, 2, 0])


def softmax_loss(m):
    def loss(x, y):
        value, dx = 0.0, np.zeros_like(x)
        for n in range(len(x)):
            e = np.exp(x[n] - x[n].max())
            p = e / e.sum()
            value -= np.log(p[y[n]])
            dx[n] = e if m == "e" else p
            dx[n, y[n]] += {"label": 0, "sign": 1, "twice": p[y[n]] - 1}.get(m, -1)
        return value / len(x), dx / {"N": 1, "classes": x.shape[1]}.get(m, len(x))

    return loss


def svm_loss(m, reg):
    def loss(w, data, y):
        value, dw = 0.0, np.zeros_like(w)
        for n in range(len(data)):
            scores = data[n] @ w
            for j in range(w.shape[1]):
                margin = scores[j] - scores[y[n]] + 1
                if j != y[n] and margin > 0:
                    value += margin
                    dw[:, j] += data[n]
                    if m != "label":
                        dw[:, y[n]] -= data[n]
        dw = dw / (1 if m == "N" else len(data))
        decay = (0 if m == "missing" else 2) * reg
        return value / len(data) + reg * np.sum(w * w), dw + decay * w

    return loss


def of_loss(family, what, loss, x, says, **options):
    return submission(family, what, loss, None, (x,), says, **options)


def of_softmax(m, what, says, x=normal(6, 3, seed=7)):  # noqa: B008  # a tensor
    return of_loss("cross-entropy", what, softmax_loss(m), x, says, y=Y)


def of_svm(m, what, says, reg=0.1):
    w = normal(4, 3, seed=8)
    return of_loss("hinge loss", what, svm_loss(m, reg), w, says, data=X, y=Y)


WRONG = [
    of_rnn("time", "time's path missing", "d, the gradient of h, misses the path through"),
    of_rnn("y", "1 - y for 1 - y^2", "tanh"),
    of_rnn("none", "tanh's derivative missing", r"d, the gradient of `x\[:, t\] @ wx`, lacks the"),
    of_rnn("overwritten", "dWx overwritten", "use 1 of 4 only, as if overwritten"),
    of_rnn("new", "dWh by the new state", r"is wrong in 9 of 9 places, .* \(line \d+\)"),
    of_rnn("mean", "mean for a sum in db", "averaged where it should be summed"),
    of_rnn("transposed", "Wh not transposed", "transposition"),
    of_lstm("of df", "sigmoid(df) for sigmoid(af)", r"daf, .* of x \(line \d+\), is not linear"),
    of_lstm("at f", "sigmoid at its output", r"`return 1 / \(1 \+ np\.exp\(-x\)\)`, forward's f"),
    of_lstm("tanh", "tanh's derivative missing", r"d, the gradient of `f \* c`, lacks the"),
    of_lstm("c", "1 - c^2 for 1 - tanh(c)^2", "tanh"),
    of_lstm("i by c", "input gate by the cell", "di, the gradient of i, is the gradient of f"),
    of_lstm("exchanged", "gates exchanged", "da, the gradient of a, has the right values"),
    of_lstm("f", "forget gate missing in dc", r"lacks the factor f in the path through mul\(\)"),
    of_softmax("label", "label's term missing", r"\+ 1/6 onehot"),
    of_softmax("e", "not normalised", "is wrong in 18 of 18 places"),
    of_softmax("N", "1/N missing", "summed where it should be averaged"),
    of_svm("label", "label's term missing", r"misses the path through getitem\(\) \(in"),
    of_svm("N", "1/N missing", r"counts the path through matmul\(\) \(in `data\[n\]"),
]
RIGHT = [
    of_rnn("", "four steps", ""),
    of_rnn("", "one step", "", 1),
    of_rnn("", "seven steps", "", 7),
    of_rnn("", "two steps", "", 2),
    of_lstm("", "as the chain rule has it", ""),
    of_softmax("", "scores", ""),
    of_softmax("", "small scores", "", 0.1 * normal(6, 3, seed=7)),
    of_softmax("", "large scores", "", 20 * normal(6, 3, seed=7)),
    of_svm("", "with a decay", ""),
    of_svm("", "with much decay", "", 3.0),
    of_svm("", "without a decay", "", 0.0),
]
