"""Mistakes in the formulas of norms, softmax and cross-entropy: told as terms or as paths."""

import inspect

import pytest
import torch

import lincoln_fn as lf
from lincoln_fn.testing import check_layer, check_loss
from lincoln_fn.testing.terms import one_hot

X = lf.keys.normal(lf.Key(1), (5, 5))
W = lf.keys.normal(lf.Key(2), (5,)) + 3
LABELS = torch.tensor([0, 4, 2, 1, 1])


def mean(v):
    return v.mean(-1, keepdim=True)


def layer_norm(w, x):
    r = torch.rsqrt(((x - mean(x)) ** 2).mean(-1, keepdim=True) + 1e-5)
    n = (x - mean(x)) * r
    return w * n, (x, n, r)


def rms_norm(w, x):
    r = torch.rsqrt(mean(x**2) + 1e-6)
    n = x * r
    return w * n, (x, n, r)


def softmax(w, x):
    y = torch.softmax(x, 1)
    return y, (x, y, w)


def log_softmax(w, x):
    y = torch.log_softmax(x, 1)
    return y, (x, y, w)


def total(v):
    return v.sum(-1, keepdim=True)


# For each formula, by what is said of dx, wrong gradients of x by x, its normalised value or y, r,
# d = w g, and g.
NORM = {
    "has the further factor r in the path through mul() (in `w * n`)":
        lambda x, n, r, d, g: r**2 * (d - mean(d) - n * mean(d * n)),
    "has the further factor r in the path through mean()":
        lambda x, n, r, d, g: r * (d - mean(d) - r * n * mean(d * n)),
    "is its gradient - 1/5 n r sum(d, 1), and misses the path through mean()":
        lambda x, n, r, d, g: r * (d - mean(d) - n * mean(d)),
    "is its gradient - 1/5 x r sum(d x, 1), and misses the path through mean()":
        lambda x, n, r, d, g: r * (d - mean(d) - x * mean(d * x)),
    "is its gradient - 1/5 n r sum(g n, 1), and misses the path through mean()":
        lambda x, n, r, d, g: r * (d - mean(d) - n * mean(g * n)),
    "counts the path through mean() 5/4 times":
        lambda x, n, r, d, g: r * (d - mean(d) - n * total(d * n) / 4),
    "is its gradient - 1/5 r sum(d, 0), and misses the path through mean()":
        lambda x, n, r, d, g: r * (d - d.mean(0) - n * mean(d * n)),
}  # fmt: skip
RMS = {
    "lacks the factor r in the path through mean()": lambda x, n, r, d, g: r * d - n * mean(d * n),
    "is its gradient - 1/5 r sum(d, 1)": lambda x, n, r, d, g: r * (d - mean(d) - n * mean(d * n)),
}  # fmt: skip
SOFTMAX = {
    "is its gradient - g y": lambda x, y, r, d, g: -y * total(g * y),
    "lacks the factor y in the path through softmax() (in `torch.softmax(x, 1)`)":
        lambda x, y, r, d, g: g - total(g * y),
    "is its gradient + 4/5 y sum(g y, 1)": lambda x, y, r, d, g: y * (g - mean(g * y)),
}  # fmt: skip
LOG_SOFTMAX = {
    "is its gradient - 1/5 sum(g, 1) + e^y sum(g, 1)": lambda x, y, r, d, g: g - mean(g),
    "is its gradient - e^y sum(g, 0) + e^y sum(g, 1)": lambda x, y, r, d, g: g - y.exp() * g.sum(0),
}  # fmt: skip
ROWS = [
    (forward, says, dx)
    for forward, table in (
        (layer_norm, NORM), (rms_norm, RMS), (softmax, SOFTMAX), (log_softmax, LOG_SOFTMAX))
    for says, dx in table.items()
]  # fmt: skip


@pytest.mark.parametrize(
    ("forward", "says", "dx"), ROWS, ids=[f"{f.__name__}: {says}" for f, says, _ in ROWS]
)
def test_each_mistake_in_a_formula_is_told(forward, says, dx):
    def backward(w, cache, g):
        return dx(*cache, w * g, g), (g * cache[1]).sum(0) if is_norm else 0 * w

    is_norm = forward in (layer_norm, rms_norm)
    report = check_layer(lf.Layer("mine()", forward, backward), W, X, all=True)
    (mistake,) = report.mistakes
    assert str(mistake).startswith(f"mine(): dx {says}")


ENTROPY = {
    "is its gradient - 1/5 p": lambda z, p, t: -t,
    "is its gradient + 2/5 onehot": lambda z, p, t: p + t,
    "is its gradient + 1/5 z - 1/5 p": lambda z, p, t: z - t,
    "is its gradient - 1/5 onehot p": lambda z, p, t: p * (1 - t) - t,
    "has the further factor onehot in the path through cross_entropy()":
        lambda z, p, t: (p - t) * t,
}  # fmt: skip


@pytest.mark.parametrize("says", ENTROPY)
def test_each_mistake_in_cross_entropy_is_told(says):
    def forward(z, labels):
        loss = torch.nn.functional.cross_entropy(z, labels)
        return loss, (z, torch.softmax(z, 1), torch.nn.functional.one_hot(labels, 5))

    def backward(cache, g=1.0):
        return g * ENTROPY[says](*cache) / 5

    report = check_loss(lf.Loss("mine()", forward, backward), X, LABELS, all=True)
    (mistake,) = report.mistakes
    assert str(mistake).startswith(f"mine(): dx {says}")


def entropy_of_labels(z, t):
    log_p = torch.log_softmax(z, -1)
    is_kept = t >= 0
    picked = log_p.gather(-1, t.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return -(picked * is_kept).sum() / is_kept.sum(), (log_p.exp(), is_kept)


def without_labels(cache, g=1.0):
    p, is_kept = cache
    return g * p * is_kept.unsqueeze(-1) / is_kept.sum()


def entropy_of_targets(z, t):
    log_p = torch.log_softmax(z, -1)
    return -(log_p * t).sum() / len(t), (log_p.exp(), t)


def without_targets(cache, g=1.0):
    p, t = cache
    return g * p / len(t)


OTHER_ENTROPIES = {
    "two classes": (entropy_of_labels, without_labels, X[:, :2], torch.tensor([0, 1, 1, 0, 1]),
        "its gradient + 1/5 onehot"),
    "an index that is ignored": (entropy_of_labels, without_labels, X, LABELS - 1,
        "its gradient + 1/4 onehot"),
    "labels of tokens": (entropy_of_labels, without_labels, lf.keys.normal(lf.Key(3), (2, 3, 4)),
        torch.tensor([[0, 1, 2], [3, 3, 1]]), "its gradient + 1/6 onehot"),
    "soft targets": (entropy_of_targets, without_targets, X, torch.softmax(X.flip(0), -1),
        "its gradient + 1/5 t"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_ENTROPIES)
def test_a_missing_label_is_told_in_every_form_of_cross_entropy(name):
    forward, backward, z, t, says = OTHER_ENTROPIES[name]
    (mistake,) = check_loss(lf.Loss("mine()", forward, backward), z, t, all=True).mistakes
    assert str(mistake).startswith(f"mine(): dx is {says}")


def test_values_of_one_name_are_told_apart():
    def forward(w, x):
        y = torch.tanh(x)
        y = torch.exp(y)
        return y * w, (x, y, w)

    def backward(w, cache, g):
        x, y, w = cache
        dw, dh = (g * y).sum(0), g * w * y
        z = y
        y = torch.tanh(x)
        return dh * (1 - y * y) + 2 * g * y + 3 * g * z, dw

    (mistake,) = check_layer(lf.Layer("mine()", forward, backward), W, X, all=True).mistakes
    line = inspect.getsourcelines(backward)[1] + 4
    assert str(mistake).startswith(f"mine(): dx is its gradient + 3 g y + 2 g y (line {line})")


def test_a_label_without_an_axis_is_one_of_a_row_of_scores_and_not_of_a_number():
    label, row = torch.tensor(2), torch.zeros(3)
    assert one_hot([label], [row[0]]) == []
    ((_, found),) = one_hot([label], [row[0], row])
    assert found.tolist() == [0, 0, 1]
