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


def made(what, family, forward, backward, says, x=X, t=T):
    loss = lf.Loss("mine()", forward, lambda cache, g=1.0: backward(*cache, g))
    return Submission(family, what, loss, x, says, target=t)


def hot(labels, p):
    return torch.nn.functional.one_hot(labels, p.shape[1]).to(p.dtype)


def squared(what, backward, says):
    return made(what, "mean squared error", mse, backward, says)


def entropy(what, backward, says):
    return made(what, "cross-entropy", cross_entropy, backward, says, X, LABELS)


WRONG = [
    squared("factor 2 missing", lambda p, t, g: g * (p - t) / 15, "2 times too small|exponent"),
    squared("1/N missing", lambda p, t, g: 2 * g * (p - t), "15 times too large"),
    squared("sign", lambda p, t, g: 2 * g * (t - p) / 15, "wrong sign"),
    squared("g forgotten", lambda p, t, g: 2 * (p - t) / 15, "forgets g"),
    squared("the target forgotten", lambda p, t, g: 2 * g * p / 15, r"is its gradient \+ 2/15 t"),
    squared("that of the absolute error", lambda p, t, g: g * torch.sign(p - t) / 15,
        r"is wrong in 15 of 15 places"),
    entropy("one-hot missing", lambda p, c, g: g * p / 5, r"is its gradient \+ 1/5 onehot"),
    entropy("1/N missing", lambda p, c, g: g * (p - hot(c, p)), "5 times too large"),
    entropy("softmax's path missing", lambda p, c, g: -g * hot(c, p) / 5,
        r"has y in place of the derivative of softmax\(\)"),
    entropy("gradient by p, not by z", lambda p, c, g: -g * hot(c, p) / p / 5, "softmax"),
    entropy("sign", lambda p, c, g: g * (hot(c, p) - p) / 5, "wrong sign"),
    entropy("g forgotten", lambda p, c, g: (p - hot(c, p)) / 5, "forgets g"),
    entropy("divided by the classes", lambda p, c, g: g * (p - hot(c, p)) / 3,
        "1.66667 times too large"),
    entropy("labels shifted", lambda p, c, g: g * (p - hot((c + 1) % 3, p)) / 5,
        r"is wrong in 10 of 15 places"),
    made("sign", "logistic loss", logistic, lambda z, t, g: g * t * torch.sigmoid(-z * t) / 15,
        "wrong sign", X, SIGNS),
    made("t missing", "logistic loss", logistic, lambda z, t, g: -g * torch.sigmoid(-z * t) / 15,
        "factor|absolute", X, SIGNS),
    made("derivative at z", "logistic loss", logistic,
        lambda z, t, g: -g * t * torch.sigmoid(z) / 15, "wrong|derivative", X, SIGNS),
    made("mask missing", "hinge loss", hinge, lambda z, t, g: -g * t / 15,
        "mask|derivative of relu", 3 * X, SIGNS),
    made("mask inverted", "hinge loss", hinge, lambda z, t, g: -g * t * (z * t > 1) / 15, "mask",
        3 * X, SIGNS),
    made("1/N missing", "hinge loss", hinge, lambda z, t, g: -g * t * (z * t < 1),
        "15 times too large", 3 * X, SIGNS),
    Submission("mean squared error", "another default of g",
        lf.Loss("mine()", mse, lambda c, g=2.0: 2 * g * (c[0] - c[1]) / 15), X,
        "backward\\(cache\\) differs", target=T),
]  # fmt: skip
RIGHT = [
    squared("right", lambda p, t, g: g * (2 / p.numel()) * (p - t), ""),
    made("at its kink", "hinge loss", hinge, lambda z, t, g: -g * t * (z * t <= 1) / 3, "",
        torch.tensor([1.0, -1.0, 0.5]), torch.tensor([1.0, -1.0, 1.0])),
]  # fmt: skip
