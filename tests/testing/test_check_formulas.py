"""The algebra of mistakes: each operator, made by hand in a known formula, gives its own name."""

import pytest
import torch

import lincoln_fn as lf
from lincoln_fn import keys
from lincoln_fn.testing import check_layer, check_loss
from lincoln_fn.testing.hypotheses import formulas
from lincoln_fn.testing.hypotheses.algebra import Formula, make_mistakes

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
def test_each_mistake_in_a_formula_has_its_name(forward, name, dx):
    def backward(w, cache, g):
        return dx(*cache, w * g, g), (g * cache[1]).sum(0) if is_norm else 0 * w

    is_norm = forward in (layer_norm, rms_norm)
    report = check_layer(lf.Layer("mine()", forward, backward), W, X, all=True)
    assert [(f.leaf, f.name) for f in report.mistakes] == [("dx", name)]


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
def test_each_mistake_in_cross_entropy_has_its_name(name):
    def forward(z, labels):
        loss = torch.nn.functional.cross_entropy(z, labels)
        return loss, (z, torch.softmax(z, 1), torch.nn.functional.one_hot(labels, 5))

    def backward(cache, g=1.0):
        return g * ENTROPY[name](*cache) / 5

    report = check_loss(lf.Loss("mine()", forward, backward), X, LABELS, all=True)
    assert [f.name for f in report.mistakes] == [name]


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
    "two classes": (entropy_of_labels, without_labels, X[:, :2], torch.tensor([0, 1, 1, 0, 1])),
    "an index that is ignored": (entropy_of_labels, without_labels, X, LABELS - 1),
    "labels of tokens": (entropy_of_labels, without_labels, keys.normal(lf.Key(3), (2, 3, 4)),
        torch.tensor([[0, 1, 2], [3, 3, 1]])),
    "soft targets": (entropy_of_targets, without_targets, X, torch.softmax(X.flip(0), -1)),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_ENTROPIES)
def test_a_missing_label_has_its_name_in_every_form_of_cross_entropy(name):
    forward, backward, z, t = OTHER_ENTROPIES[name]
    report = check_loss(lf.Loss("mine()", forward, backward), z, t, all=True)
    assert [f.name for f in report.mistakes] == ["one-hot missing"]
    assert "that of the label or target, is missing" in str(report.mistakes[0])


FORMULAS = {name: f for name, f in vars(formulas).items() if isinstance(f, Formula)}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_words_of_a_formula_are_of_mistakes_that_operators_make(name):
    formula = FORMULAS[name]
    assert set(formula.words) <= {said for _, said, _ in make_mistakes(formula.terms)}
