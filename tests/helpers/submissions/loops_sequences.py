"""In loops of numpy: recurrent layers, and losses."""

import numpy as np

from helpers.submissions.loops_dense import sigmoid
from helpers.submissions.submission import Code, normal


def rnn_forward(x, h0, wx, wh, b):
    h, states = h0, []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ wx + h @ wh + b)
        states.append(h)
    return np.stack(states, 1), (x, h0, wx, wh, states)


def rnn_backward(dout, cache):
    x, h0, wx, wh, states = cache
    dx, dwx, dwh, db = np.zeros_like(x), 0 * wx, 0 * wh, 0 * wh[0]
    dh = np.zeros_like(h0)
    for t in reversed(range(x.shape[1])):
        before = states[t - 1] if t else h0
        d = dout[:, t] + dh
        d = d * (1 - states[t] ** 2)
        dx[:, t] = d @ wx.T
        dwx = dwx + x[:, t].T @ d
        dwh = dwh + before.T @ d
        db = db + d.sum(0)
        dh = d @ wh.T
    return dx, dh, dwx, dwh, db


def steps(count):
    weights = normal(2, 3, seed=1), normal(4, 3, seed=2), normal(3, 3, seed=3), normal(3, seed=4)
    return normal(2, count, 4), *weights


RNN = Code("rnn", rnn_forward, rnn_backward, steps(4))


def lstm_forward(x, h, c, wx, wh, b):
    a = x @ wx + h @ wh + b
    n = h.shape[1]
    i, f, o = sigmoid(a[:, :n]), sigmoid(a[:, n : 2 * n]), sigmoid(a[:, 2 * n : 3 * n])
    g = np.tanh(a[:, 3 * n :])
    new = f * c + i * g
    return o * np.tanh(new), new, (x, h, c, wx, wh, i, f, o, g, new, a)


def lstm_backward(dh, dc, cache):
    x, h, c, wx, wh, i, f, o, g, new, a = cache
    d = dc + dh * o * (1 - np.tanh(new) ** 2)
    df, di, do = d * c, d * g, dh * np.tanh(new)
    dg = d * i
    daf = df * f * (1 - f)
    parts = [di * i * (1 - i), daf, do * o * (1 - o), dg * (1 - g**2)]
    n, da = h.shape[1], np.zeros_like(a)
    for k, part in enumerate(parts):
        da[:, k * n : (k + 1) * n] = part
    return da @ wx.T, da @ wh.T, d * f, x.T @ da, h.T @ da, da.sum(0)


LSTM = Code("lstm step", lstm_forward, lstm_backward, (
    normal(3, 4), normal(3, 2, seed=1), normal(3, 2, seed=2), normal(4, 8, seed=3),
    normal(2, 8, seed=4), normal(8, seed=5)))  # fmt: skip


def softmax_loss(x, y):
    value, dx = 0.0, np.zeros_like(x)
    for n in range(len(x)):
        e = np.exp(x[n] - x[n].max())
        p = e / e.sum()
        value -= np.log(p[y[n]])
        dx[n] = p
        dx[n, y[n]] -= 1
    return value / len(x), dx / len(x)


def svm_loss(w, data, y, reg):
    value, dw = 0.0, np.zeros_like(w)
    for n in range(len(data)):
        scores = data[n] @ w
        for j in range(w.shape[1]):
            margin = scores[j] - scores[y[n]] + 1
            if j != y[n] and margin > 0:
                value += margin
                dw[:, j] += data[n]
                dw[:, y[n]] -= data[n]
    return value / len(data) + reg * np.sum(w * w), dw / len(data) + 2 * reg * w


X, Y, SCORES = normal(6, 4).double().numpy(), np.array([0, 2, 1, 1, 2, 0]), normal(6, 3, seed=7)
SOFTMAX = Code("cross-entropy", softmax_loss, None, (SCORES,), {"y": Y})
SVM = Code("hinge loss", svm_loss, None, (normal(4, 3, seed=8),), {"data": X, "y": Y, "reg": 0.1})

WRONG = [
    RNN.submission("time's path missing", "d, the gradient of h, misses the path through",
        {"dout[:, t] + dh": "dout[:, t]"}),
    RNN.submission("1 - y for 1 - y^2", "tanh", {"states[t] ** 2": "states[t]"}),
    RNN.submission("tanh's derivative missing",
        r"d, the gradient of `x\[:, t\] @ wx`, lacks the", {"d * (1 - states[t] ** 2)": "d"}),
    RNN.submission("dWx overwritten", "use 1 of 4 only, as if overwritten", {"= dwx + ": "= "}),
    RNN.submission("dWh by the new state", r"is wrong in 9 of 9 places, .* \(line \d+\)",
        {"before.T": "states[t].T"}),
    RNN.submission("mean for a sum in db", "averaged where it should be summed",
        {"d.sum(0)": "d.mean(0)"}),
    RNN.submission("Wh not transposed", "transposition", {"wh.T": "wh"}),
    LSTM.submission("sigmoid(df) for sigmoid(af)", r"daf, .* of x \(line \d+\), is not linear",
        {"df * f * (1 - f)": "df * sigmoid(df) * (1 - sigmoid(df))"}),
    LSTM.submission("sigmoid at its output", r"`return 1 / \(1 \+ np\.exp\(-x\)\)`, forward's f",
        {"df * f * (1 - f)": "df * sigmoid(f) * (1 - sigmoid(f))"}),
    LSTM.submission("tanh's derivative missing", r"d, the gradient of `f \* c`, lacks the",
        {" * (1 - np.tanh(new) ** 2)": ""}),
    LSTM.submission("1 - c^2 for 1 - tanh(c)^2", "tanh", {"np.tanh(new) ** 2": "new**2"}),
    LSTM.submission("input gate by the cell", "di, the gradient of i, is the gradient of f",
        {"d * g": "d * c"}),
    LSTM.submission("gates exchanged", "da, the gradient of a, has the right values",
        {"di * i * (1 - i), daf": "daf, di * i * (1 - i)"}),
    LSTM.submission("forget gate missing in dc", r"lacks the factor f in the path through mul\(\)",
        {"d * f,": "d,"}),
    SOFTMAX.submission("label's term missing", r"\+ 1/6 onehot", {"-= 1\n": "-= 0\n"}),
    SOFTMAX.submission("not normalised", "is wrong in 18 of 18 places", {"dx[n] = p": "dx[n] = e"}),
    SOFTMAX.submission("1/N missing", "summed where it should be averaged", {"dx / len(x)": "dx"}),
    SVM.submission("label's term missing", r"misses the path through getitem\(\) \(in",
        {"                dw[:, y[n]] -= data[n]\n": ""}),
    SVM.submission("1/N missing", r"counts the path through matmul\(\) \(in `data\[n\]",
        {"dw / len(data)": "dw"}),
]  # fmt: skip
RIGHT = [
    RNN.submission("one step", arrays=steps(1)),
    RNN.submission("seven steps", arrays=steps(7)),
    LSTM.submission("as the chain rule has it"),
    SOFTMAX.submission("scores"),
    SOFTMAX.submission("large scores", arrays=(20 * SCORES,)),
    SVM.submission("with a decay"),
    SVM.submission("without a decay", options={**SVM.options, "reg": 0.0}),
]
