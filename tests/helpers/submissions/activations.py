"""Activations."""

import torch

import lincoln_fn as lf
from helpers.submissions.submission import Submission, layer, normal, of
from helpers.submissions.submission import activation as wrong

X = normal(5, 3)


def softplus(x):
    return torch.log1p(torch.exp(x)), x


def swish(x):
    s = torch.sigmoid(x)
    return x * s, (x, s)


WRONG = [
    wrong("tanh: derivative missing", of(lf.tanh(), lambda y, g: g),
        r"lacks the derivative of tanh\(\)"),
    wrong("tanh: g forgotten", of(lf.tanh(), lambda y, g: 1 - y**2), "forgets g"),
    wrong("tanh: derivative at x for y",
        layer(lambda x: (torch.tanh(x), x), lambda x, g: g * (1 - x**2)),
        r"has 1 - x\^2 in place of the derivative of"),
    wrong("tanh: derivative at y for x", of(lf.tanh(), lambda y, g: g * (1 - torch.tanh(y) ** 2)),
        r"is wrong in 14 of 15 places, .* \(line \d+\)"),
    wrong("tanh: sign", of(lf.tanh(), lambda y, g: g * (y**2 - 1)), "wrong sign"),
    wrong("sigmoid: derivative missing", of(lf.sigmoid(), lambda y, g: g),
        r"lacks the derivative of sigmoid\(\)"),
    wrong("sigmoid: derivative at x for y",
        layer(lambda x: (torch.sigmoid(x), x), lambda x, g: g * x * (1 - x)),
        r"has x \(1 - x\) in place of the derivative of"),
    wrong("sigmoid: derivative at y for x",
        of(lf.sigmoid(), lambda y, g: g * torch.sigmoid(y) * (1 - torch.sigmoid(y))),
        r"is wrong in 15 of 15 places, .* \(line \d+\)"),
    wrong("sigmoid: only y", of(lf.sigmoid(), lambda y, g: g * y),
        r"has y in place of the derivative of"),
    wrong("sigmoid: that of tanh", of(lf.sigmoid(), lambda y, g: g * (1 - y**2)),
        r"has 1 - y\^2 in place of the derivative of"),
    wrong("tanh: forward of another slope",
        layer(lambda x: (torch.sigmoid(x), x), lambda x, g: g * (1 - torch.tanh(x) ** 2)),
        r"is wrong in 15 of 15 places"),
    wrong("relu: mask missing", of(lf.relu(), lambda y, g: g * (y >= 0)),
        r"lacks the derivative of relu\(\)"),
    wrong("relu: mask inverted", of(lf.relu(), lambda y, g: g * (y <= 0)), "mask inverted"),
    wrong("relu: mask from g", of(lf.relu(), lambda y, g: g * (g > 0)),
        "is not linear in g: is g a factor of every"),
    wrong("relu: g forgotten", of(lf.relu(), lambda y, g: (y > 0).to(g.dtype)), "forgets g"),
    wrong("relu: y for the mask", of(lf.relu(), lambda y, g: g * y),
        "has the further factor cache in the path"),
    wrong("leaky relu: slopes exchanged", layer(lambda x: (torch.where(x > 0, x, 0.1 * x), x),
            lambda x, g: torch.where(x > 0, 0.1 * g, g)),
                r"counts the path through mul\(\) \(in `0\.1 \* x`\) 10 times, and counts"),
    wrong("leaky relu: slope missing", layer(lambda x: (torch.where(x > 0, x, 0.1 * x), x),
            lambda x, g: torch.where(x > 0, g, 0 * g)), "another forward: of relu|misses the path"),
    wrong("softplus: derivative of sigmoid",
        layer(softplus, lambda x, g: g * torch.sigmoid(x) * (1 - torch.sigmoid(x))),
            r"is wrong in 15 of 15 places, .* \(line \d+\)"),
    wrong("swish: the sigmoid taken as constant", layer(swish, lambda c, g: g * c[1]),
        "path through sigmoid"),
    wrong("swish: x taken as constant", layer(swish, lambda c, g: g * c[0] * c[1] * (1 - c[1])),
        "path"),
    wrong("square: factor 2 missing", layer(lambda x: (x**2, x), lambda x, g: g * x),
        "is 2 times too small"),
    wrong("cube: exponent not lowered", layer(lambda x: (x**3, x), lambda x, g: 3 * g * x**3),
        "has the further factor cache in the path"),
    wrong("x sin x: sign of the cosine",
        layer(lambda x: (x * torch.sin(x), x), lambda x, g: g * (torch.sin(x) - x * torch.cos(x))),
        "sign"),
    wrong("log: derivative inverted", layer(lambda x: (torch.log(x), x), lambda x, g: g * x),
        "has x in place of the derivative of log", X.abs() + 0.5),
    wrong("sqrt: factor 1/2 missing",
        layer(lambda x: (torch.sqrt(x), torch.sqrt(x)), lambda y, g: g / y),
        "dx is 2 times too large$", X.abs() + 0.5),
]  # fmt: skip
RIGHT = [
    Submission("activation", "sigmoid written out",
        layer(lambda x: ((y := 1 / (1 + torch.exp(-x))), y), lambda y, g: g * y - g * y**2),
        300 * X),
    Submission("activation", "tanh by exponentials", layer(
            lambda x: ((torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1), x),
            lambda x, g: 4 * g / (torch.exp(x) + torch.exp(-x)) ** 2), X),
    Submission("activation", "relu with a slope of 1/2 at zero", layer(
            lambda x: (x.clamp(min=0), x),
            lambda x, g: g * torch.heaviside(x, torch.full_like(x, 0.5))),
        torch.tensor([[-1.0, 0.0, 2.0, 0.0]])),
    Submission("activation", "relu by float32 zeros", layer(lambda x: (torch.relu(x), x),
            lambda x, g: torch.where(x > 0, g.float(), torch.zeros(x.shape))), X),
    Submission("activation", "abs of zeros",
        layer(lambda x: (x.abs(), x), lambda x, g: g * torch.sign(x)), torch.zeros(2, 3)),
    Submission("activation", "square root near zero",
        layer(lambda x: ((y := torch.sqrt(x)), y), lambda y, g: 0.5 * g / y),
        torch.tensor([1e-12, 1e-6, 3.0])),
]  # fmt: skip
