"""Mistakes in the formulas of norms, softmax and cross-entropy: told as terms or as paths."""

import pytest
import torch

import lincoln_fn as lf
from lincoln_fn import keys
from lincoln_fn.testing import check_layer, check_loss

X = keys.normal(lf.Key(1), (5, 5))
W = keys.normal(lf.Key(2), (5,)) + 3
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


# For each formula, wrong gradients of x by x, its normalised value or y, r, d = w g, and g.
NORM = {
    "mean and variance constant": lambda x, n, r, d, g: r * d,
    "mean constant": lambda x, n, r, d, g: r * (d - n * mean(d * n)),
    "variance constant": lambda x, n, r, d, g: r * (d - mean(d)),
    "sign": lambda x, n, r, d, g: r * (d + mean(d) + n * mean(d * n)),
    "1/std missing": lambda x, n, r, d, g: d - r * mean(d) - r * n * mean(d * n),
    "1/std twice": lambda x, n, r, d, g: r**2 * (d - mean(d) - n * mean(d * n)),
    "std for 1/std": lambda x, n, r, d, g: (d - mean(d) - n * mean(d * n)) / r,
    "power of 1/std": lambda x, n, r, d, g: r * (d - mean(d) - r * n * mean(d * n)),
    "x_hat missing": lambda x, n, r, d, g: r * (d - mean(d) - n * mean(d)),
    "x for x_hat": lambda x, n, r, d, g: r * (d - mean(d) - x * mean(d * x)),
    "w missing": lambda x, n, r, d, g: r * (d - mean(d) - n * mean(g * n)),
    "w too late": lambda x, n, r, d, g: d / g * r * (g - mean(g) - n * mean(g * n)),
    "1/N missing": lambda x, n, r, d, g: r * (d - mean(d) - n * total(d * n)),
    "N - 1 for N": lambda x, n, r, d, g: r * (d - mean(d) - n * total(d * n) / 4),
    "variance's factor": lambda x, n, r, d, g: r * (d - mean(d) - 2 * n * mean(d * n)),
    "wrong axes": lambda x, n, r, d, g: r * (d - d.mean(0) - n * mean(d * n)),
    "keepdim": lambda x, n, r, d, g: r * (d - d.mean(-1) - n * (d * n).mean(-1)),
}
RMS = {
    "mean square constant": lambda x, n, r, d, g: r * d,
    "power of 1/rms": lambda x, n, r, d, g: r * d - n * mean(d * n),
    "that of layer norm": lambda x, n, r, d, g: r * (d - mean(d) - n * mean(d * n)),
    "1/rms twice": lambda x, n, r, d, g: r**2 * (d - n * mean(d * n)),
    "w missing": lambda x, n, r, d, g: r * (g - n * mean(g * n)),
}
SOFTMAX = {
    "softmax's sum": lambda x, y, r, d, g: y * g,
    "softmax's diagonal": lambda x, y, r, d, g: y * (1 - y) * g,
    "softmax's weights": lambda x, y, r, d, g: y * (g - total(g)),
    "softmax's first term": lambda x, y, r, d, g: -y * total(g * y),
    "softmax's factor": lambda x, y, r, d, g: g - total(g * y),
    "softmax's mean": lambda x, y, r, d, g: y * (g - mean(g * y)),
    "softmax's axis": lambda x, y, r, d, g: y * (g - (g * y).sum(0)),
    "softmax twice": lambda x, y, r, d, g: (
        y * (y * (g - total(g * y)) - total(y * y * (g - total(g * y))))),
    "sum's sign": lambda x, y, r, d, g: y * (g + total(g * y)),
    "at x for y": lambda x, y, r, d, g: x * (g - total(g * x)),
    "keepdim": lambda x, y, r, d, g: y * (g - (g * y).sum(1)),
}  # fmt: skip
LOG_SOFTMAX = {
    "log-softmax's sum": lambda x, y, r, d, g: g,
    "log-softmax's diagonal": lambda x, y, r, d, g: g - y.exp() * g,
    "log-softmax's weights": lambda x, y, r, d, g: g - total(g),
    "log-softmax's mean": lambda x, y, r, d, g: g - mean(g),
    "log y for y": lambda x, y, r, d, g: g - y * total(g),
    "x for y": lambda x, y, r, d, g: g - x.exp() * total(g),
    "sum's sign": lambda x, y, r, d, g: g + y.exp() * total(g),
    "that of softmax": lambda x, y, r, d, g: y.exp() * (g - total(g * y.exp())),
    "softmax's axis": lambda x, y, r, d, g: g - y.exp() * g.sum(0),
}
# What is said of each mistake in dx.
SAID = {
    "layer_norm: mean and variance constant": "misses the paths through mean() and mean()",
    "layer_norm: mean constant": "misses the path through mean()",
    "layer_norm: variance constant": "misses the path through mean()",
    "layer_norm: sign": "has the wrong sign in the paths through mean() and mean()",
    "layer_norm: 1/std missing": "lacks the factor r in the path through sub() (in `x - mean(x)`)",
    "layer_norm: 1/std twice": "has the further factor r in the path through mul() (in `w * n`)",
    "layer_norm: std for 1/std":
        "is divided by r, where it should be multiplied in the path through mul() (in `w * n`)",
    "layer_norm: power of 1/std": "has the further factor r in the path through mean()",
    "layer_norm: x_hat missing":
        "has 1/x in place of the other factor of mul() (in `(x - mean(x)) * r`)",
    "layer_norm: x for x_hat": "is its gradient - 1/5 x r sum(d x, 1) + 1/5 n r sum(d n, 1)",
    "layer_norm: w missing": "is its gradient - 1/5 n r sum(g n, 1) + 1/5 n r sum(d n, 1)",
    "layer_norm: w too late": "is wrong in 25 of 25 places",
    "layer_norm: 1/N missing": "counts the path through mean() 5 times",
    "layer_norm: N - 1 for N": "counts the path through mean() 5/4 times",
    "layer_norm: variance's factor": "counts the path through mean() 2 times",
    "layer_norm: wrong axes": "is its gradient - 1/5 r sum(d, 0) + 1/5 r sum(d, 1)",
    "layer_norm: keepdim": "is wrong in 20 of 25 places",
    "rms_norm: mean square constant": "misses the path through mean()",
    "rms_norm: power of 1/rms": "lacks the factor r in the path through mean()",
    "rms_norm: that of layer norm": "is its gradient - 1/5 r sum(d, 1)",
    "rms_norm: 1/rms twice": "has the further factor r in the path through mul() (in `w * n`)",
    "rms_norm: w missing": "lacks the other factor of mul() (in `w * n`)",
    "softmax: softmax's sum":
        "has y in place of the derivative of softmax() (in `torch.softmax(x, 1)`)",
    "softmax: softmax's diagonal":
        "has y (1 - y) in place of the derivative of softmax() (in `torch.softmax(x, 1)`)",
    "softmax: softmax's weights": "is its gradient - y sum(g, 1) + y sum(g y, 1)",
    "softmax: softmax's first term": "is its gradient - g y",
    "softmax: softmax's factor":
        "lacks the factor y in the path through softmax() (in `torch.softmax(x, 1)`)",
    "softmax: softmax's mean": "is its gradient + 4/5 y sum(g y, 1)",
    "softmax: softmax's axis": "is its gradient - y sum(g y, 0) + y sum(g y, 1)",
    "softmax: softmax twice": "is wrong in 25 of 25 places",
    "softmax: sum's sign": "is its gradient + 2 y sum(g y, 1)",
    "softmax: at x for y": "is wrong in 25 of 25 places",
    "softmax: keepdim": "is wrong in 20 of 25 places",
    "log_softmax: log-softmax's sum":
        "lacks the derivative of log_softmax() (in `torch.log_softmax(x, 1)`)",
    "log_softmax: log-softmax's diagonal": "is its gradient + e^y sum(g, 1) - g e^y",
    "log_softmax: log-softmax's weights": "is its gradient - sum(g, 1) + e^y sum(g, 1)",
    "log_softmax: log-softmax's mean": "is its gradient - 1/5 sum(g, 1) + e^y sum(g, 1)",
    "log_softmax: log y for y": "is its gradient - y sum(g, 1) + e^y sum(g, 1)",
    "log_softmax: x for y": "is wrong in 25 of 25 places",
    "log_softmax: sum's sign": "is its gradient + 2 e^y sum(g, 1)",
    "log_softmax: that of softmax": "is wrong in 25 of 25 places",
    "log_softmax: softmax's axis": "is its gradient - e^y sum(g, 0) + e^y sum(g, 1)",
    "cross_entropy: one-hot missing": "is its gradient + 1/5 onehot",
    "cross_entropy: p missing": "is its gradient - 1/5 p",
    "cross_entropy: label's sign": "is its gradient + 2/5 onehot",
    "cross_entropy: scores for probabilities": "is its gradient + 1/5 z - 1/5 p",
    "cross_entropy: log p for p": "is wrong in 25 of 25 places",
    "cross_entropy: e^z for p": "is wrong in 25 of 25 places",
    "cross_entropy: label overwritten": "is its gradient - 1/5 onehot p",
    "cross_entropy: label only":
        "has the further factor onehot in the path through cross_entropy()",
    "cross_entropy: gradient by p": "is wrong in 25 of 25 places",
    "cross_entropy: softmax twice": "is wrong in 25 of 25 places",
}  # fmt: skip
ROWS = [
    (forward, name, dx)
    for forward, table in (
        (layer_norm, NORM), (rms_norm, RMS), (softmax, SOFTMAX), (log_softmax, LOG_SOFTMAX),
    )
    for name, dx in table.items()
]  # fmt: skip


@pytest.mark.parametrize(
    ("forward", "name", "dx"), ROWS, ids=[f"{f.__name__}: {name}" for f, name, _ in ROWS]
)
def test_each_mistake_in_a_formula_is_told(forward, name, dx):
    def backward(w, cache, g):
        return dx(*cache, w * g, g), (g * cache[1]).sum(0) if is_norm else 0 * w

    is_norm = forward in (layer_norm, rms_norm)
    report = check_layer(lf.Layer("mine()", forward, backward), W, X, all=True)
    (mistake,) = report.mistakes
    assert str(mistake).startswith(f"mine(): dx {SAID[f'{forward.__name__}: {name}']}")


ENTROPY = {
    "one-hot missing": lambda z, p, t: p,
    "p missing": lambda z, p, t: -t,
    "label's sign": lambda z, p, t: p + t,
    "scores for probabilities": lambda z, p, t: z - t,
    "log p for p": lambda z, p, t: p.log() - t,
    "e^z for p": lambda z, p, t: z.exp() - t,
    "label overwritten": lambda z, p, t: p * (1 - t) - t,
    "label only": lambda z, p, t: (p - t) * t,
    "gradient by p": lambda z, p, t: -t / p,
    "softmax twice": lambda z, p, t: (p - t) * p * (1 - p),
}


@pytest.mark.parametrize("name", ENTROPY)
def test_each_mistake_in_cross_entropy_is_told(name):
    def forward(z, labels):
        loss = torch.nn.functional.cross_entropy(z, labels)
        return loss, (z, torch.softmax(z, 1), torch.nn.functional.one_hot(labels, 5))

    def backward(cache, g=1.0):
        return g * ENTROPY[name](*cache) / 5

    report = check_loss(lf.Loss("mine()", forward, backward), X, LABELS, all=True)
    (mistake,) = report.mistakes
    assert str(mistake).startswith(f"mine(): dx {SAID[f'cross_entropy: {name}']}")


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
    "labels of tokens": (entropy_of_labels, without_labels, keys.normal(lf.Key(3), (2, 3, 4)),
        torch.tensor([[0, 1, 2], [3, 3, 1]]), "its gradient + 1/6 onehot"),
    "soft targets": (entropy_of_targets, without_targets, X, torch.softmax(X.flip(0), -1),
        "its gradient + 1/5 t"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_ENTROPIES)
def test_a_missing_label_is_told_in_every_form_of_cross_entropy(name):
    forward, backward, z, t, says = OTHER_ENTROPIES[name]
    (mistake,) = check_loss(lf.Loss("mine()", forward, backward), z, t, all=True).mistakes
    assert str(mistake).startswith(f"mine(): dx is {says}")
