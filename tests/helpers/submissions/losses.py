"""Losses."""

import torch

import lincoln_fn as lf
from helpers.submissions.submission import Submission, normal

X, T = normal(5, 3), normal(5, 3, seed=1)
LABELS = torch.tensor([0, 1, 2, 1, 0])
SIGNS = 2.0 * (T > 0) - 1


def mse(p, t):
    return ((p - t) ** 2).mean(), (p, t)


def cross_entropy(z, labels):
    p = torch.softmax(z, 1)
    return -torch.log(p[torch.arange(len(z)), labels]).mean(), (p, labels)


def logistic(z, t):
    return torch.nn.functional.softplus(-z * t).mean(), (z, t)


def hinge(z, t):
    return torch.relu(1 - z * t).mean(), (z, t)


def huber(x, t):
    r = x - t
    return torch.where(r.abs() < 1, r**2 / 2, r.abs() - 0.5).sum(), (r,)


def bernoulli(p, t):
    return -(t * torch.log(p) + (1 - t) * torch.log(1 - p)).mean(), (p, t)


def divergence(z, t):
    return (t * (t.log() - z)).sum(1).mean(), (z, t)


# By what a loss is called: forward, the prediction, and the target.
FORWARDS = {
    "mean squared error": (mse, X, T), "cross-entropy": (cross_entropy, X, LABELS),
    "logistic loss": (logistic, X, SIGNS), "hinge loss": (hinge, 3 * X, SIGNS),
    "hinge loss at its kink": (hinge, *torch.tensor([[1, -1, 0.5], [1.0, -1, 1]])),
    "huber loss": (huber, 2 * X, T),
    "bernoulli loss": (bernoulli, torch.sigmoid(X), (T > 0).double()),
    "kl divergence": (divergence, X, torch.softmax(T, 1)),
}  # fmt: skip


def made(family, what, backward, says=""):
    forward, x, target = FORWARDS[family]
    loss = lf.Loss("mine()", forward, lambda cache, g=1.0: backward(*cache, g))
    return Submission(family, what, loss, x, says, target=target)


def squared(what, backward, says=""):
    return made("mean squared error", what, backward, says)


def entropy(what, backward, says):
    return made("cross-entropy", what, backward, says)


def hot(labels, p):
    return torch.nn.functional.one_hot(labels, p.shape[1]).to(p.dtype)


WRONG = [
    squared("factor 2 missing", lambda p, t, g: g * (p - t) / 15, "2 times too small|exponent"),
    squared("1/N missing", lambda p, t, g: 2 * g * (p - t), "15 times too large"),
    squared("sign", lambda p, t, g: 2 * g * (t - p) / 15, "wrong sign"),
    squared("g forgotten", lambda p, t, g: 2 * (p - t) / 15, "forgets g"),
    squared("the target forgotten", lambda p, t, g: 2 * g * p / 15, r"is its gradient \+ 2/15 t"),
    squared("that of the absolute error", lambda p, t, g: g * torch.sign(p - t) / 15,
        r"is wrong in 15 of 15 places"),
    entropy("one-hot missing", lambda p, c, g: g * p / 5, r"is its gradient \+ 1/5 onehot"),
    entropy("softmax's path missing", lambda p, c, g: -g * hot(c, p) / 5,
        r"has y in place of the derivative of softmax\(\)"),
    entropy("gradient by p, not by z", lambda p, c, g: -g * hot(c, p) / p / 5, "softmax"),
    entropy("divided by the classes", lambda p, c, g: g * (p - hot(c, p)) / 3,
        "1.66667 times too large"),
    entropy("labels shifted", lambda p, c, g: g * (p - hot((c + 1) % 3, p)) / 5,
        r"is wrong in 10 of 15 places"),
    made("logistic loss", "t missing", lambda z, t, g: -g * torch.sigmoid(-z * t) / 15,
        "factor|absolute"),
    made("logistic loss", "derivative at z", lambda z, t, g: -g * t * torch.sigmoid(z) / 15,
        "wrong|derivative"),
    made("hinge loss", "mask missing", lambda z, t, g: -g * t / 15, "mask|derivative of relu"),
    made("hinge loss", "mask inverted", lambda z, t, g: -g * t * (z * t > 1) / 15, "mask"),
    made("huber loss", "the square everywhere", lambda r, g: g * r,
        r"has the further factor `r\.abs\(\)` in the path"),
    made("huber loss", "branches exchanged",
        lambda r, g: g * torch.where(r.abs() < 1, r.sign(), r),
        r"lacks the factor `r\.abs\(\)` in the path through pow"),
    made("bernoulli loss", "by the score, not by p", lambda p, t, g: g * (p - t) / 15,
        "is 1/15 p - 1/15 t, not its gradient"),
    made("bernoulli loss", "sign of the second term",
        lambda p, t, g: -g * (t / p + (1 - t) / (1 - p)) / 15, r"sign .*sub\(\)"),
    made("kl divergence", "not averaged", lambda z, t, g: -g * t, "5 times too large"),
    Submission("mean squared error", "another default of g",
        lf.Loss("mine()", mse, lambda c, g=2.0: 2 * g * (c[0] - c[1]) / 15), X,
        "backward\\(cache\\) differs", target=T),
]  # fmt: skip
RIGHT = [
    squared("right", lambda p, t, g: g * (2 / p.numel()) * (p - t)),
    made("hinge loss at its kink", "either slope", lambda z, t, g: -g * t * (z * t <= 1) / 3),
    made("huber loss", "with a clamp", lambda r, g: g * r.clamp(-1, 1)),
    made("bernoulli loss", "one quotient", lambda p, t, g: g * (p - t) / (p * (1 - p)) / 15),
]
