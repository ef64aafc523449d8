"""Activations, softmaxes, dropout, and pooling."""

import torch
from torch.nn import functional

import lincoln_fn as lf
from helpers.submissions.submission import Submission, layer, normal, of

X, SQUARE = normal(5, 3), normal(4, 4, seed=1)
EVEN, OVERLAPPING = normal(2, 3, 4, 6, seed=4), normal(2, 2, 7)


def wrong(what, made, says, x=X):
    return Submission("activation", what, made, x, says)


def right(what, forward, dx, x=X):
    return Submission("activation", what, layer(forward, dx), x)


def swish(x):
    s = torch.sigmoid(x)
    return x * s, (x, s)


def elu(x):
    return torch.where(x > 0, x, torch.exp(x) - 1), x


def leaky_relu(x):
    return torch.where(x > 0, x, 0.1 * x), x


def dropped(dx):
    def backward(params, cache, g):
        return dx(cache.mask, cache.scale, g), params

    return lf.dropout(0.4).replace(backward=backward)


def softmax(x):
    e = torch.exp(x - x.max(-1, keepdim=True).values)
    p = e / e.sum(-1, keepdim=True)
    return p, p


def loop(cache, g):
    dx = torch.zeros_like(g)
    for i in range(len(g)):
        jacobian = torch.diag(cache[i]) - torch.outer(cache[i], cache[i])
        dx[i] = jacobian @ g[i]
    return dx


def mean_of_ties(x, g):
    """The gradient of a maximum, divided among ties."""
    is_largest = (x == x.amax(1, keepdim=True)).to(x)
    return g[:, None] * is_largest / is_largest.sum(1, keepdim=True)


def pooled(what, made, says="", x=EVEN):
    return Submission("pooling", what, made, x, says)


def wide(y):
    return y.repeat_interleave(2, 2).repeat_interleave(2, 3)


def windows(x):
    y = x.reshape(2, 3, 2, 2, 3, 2).amax((3, 5))
    return y, (x, wide(y))


def by_windows(dx):
    return layer(windows, lambda cache, g: dx(wide(g), *cache))


def scattered(add):
    """The maximum of overlapping windows."""

    def backward(x, g):
        places = functional.max_pool1d(x, 3, 1, return_indices=True)[1]
        dx = torch.zeros_like(x)
        return dx.scatter_add(2, places, g) if add else dx.scatter(2, places, g)

    return layer(lambda x: (functional.max_pool1d(x, 3, 1), x), backward)


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
    wrong("sigmoid: derivative at x for y",
        layer(lambda x: (torch.sigmoid(x), x), lambda x, g: g * x * (1 - x)),
        r"has x \(1 - x\) in place of the derivative of"),
    wrong("sigmoid: only y", of(lf.sigmoid(), lambda y, g: g * y),
        r"has y in place of the derivative of"),
    wrong("relu: mask missing", of(lf.relu(), lambda y, g: g * (y >= 0)),
        r"lacks the derivative of relu\(\)"),
    wrong("relu: mask inverted", of(lf.relu(), lambda y, g: g * (y <= 0)), "mask inverted"),
    wrong("relu: mask from g", of(lf.relu(), lambda y, g: g * (g > 0)),
        "is not linear in g: is g a factor of every"),
    wrong("relu: y for the mask", of(lf.relu(), lambda y, g: g * y),
        "has the further factor cache in the path"),
    wrong("hardtanh: mask missing", of(lf.hardtanh(), lambda c, g: g),
        r"lacks the derivative of clamp\(\)"),
    wrong("leaky relu: slopes exchanged",
        layer(leaky_relu, lambda x, g: torch.where(x > 0, 0.1 * g, g)),
        r"counts the path through mul\(\) \(in `0\.1 \* x`\) 10 times, and counts"),
    wrong("leaky relu: slope missing",
        layer(leaky_relu, lambda x, g: torch.where(x > 0, g, 0 * g)),
        "another forward: of relu|misses the path"),
    wrong("elu: derivative at x for y",
        layer(lambda x: (functional.elu(x), x), lambda x, g: g * torch.where(x > 0, 1, x + 1)),
        r"is its gradient \+ g cache - g y"),
    wrong("elu: y for y + 1",
        layer(elu, lambda x, g: torch.where(x > 0, g, g * (torch.exp(x) - 1))),
        r"is its gradient - g, and counts the path through where\(\)"),
    wrong("gelu: by the logistic approximation",
        of(lf.gelu(), lambda c, g: g * torch.sigmoid(1.702 * c.x)), "wrong in"),
    wrong("swish: the sigmoid taken as constant", layer(swish, lambda c, g: g * c[1]),
        "path through sigmoid"),
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
    wrong("softmax: diagonal alone", of(lf.softmax(), lambda c, g: g * c.y * (1 - c.y)),
        r"has y \(1 - y\) in place of the derivative of"),
    wrong("softmax written out: diagonal alone", layer(softmax, lambda p, g: g * p * (1 - p)),
        r"is its gradient \+ cache sum\(g cache, 1\) - g"),
    wrong("softmax: sum over the examples",
        of(lf.softmax(), lambda c, g: c.y * (g - (g * c.y).sum(0, keepdim=True))),
        r"is its gradient - y sum\(g y, 0\) \+ y sum\(g y"),
    wrong("softmax: keepdim forgotten",
        of(lf.softmax(), lambda c, g: c.y * (g - (g * c.y).sum(1))),
        r"is wrong in 12 of 16 places", SQUARE),
    wrong("softmax: g forgotten", layer(softmax, lambda p, g: p * (1 - p)), "g"),
    wrong("log-softmax: g not summed", of(lf.log_softmax(), lambda c, g: g - torch.exp(c.y) * g),
        "sum"),
    wrong("dropout: 1/keep missing", dropped(lambda m, s, g: g * m),
        r"is 1\.66667 times too small"),
    wrong("dropout: mask missing", dropped(lambda m, s, g: g * s),
        r"lacks the other factor of mul\(\)"),
    wrong("dropout: mask inverted", dropped(lambda m, s, g: g * ~m * s), "mask inverted"),
    pooled("sent everywhere", by_windows(lambda g, x, y: g),
        r"is wrong in 108 of 144 places, .* \(line \d+\)"),
    pooled("g forgotten", by_windows(lambda g, x, y: (x == y).to(g)), "forgets g"),
    pooled("further factor x", by_windows(lambda g, x, y: g * x * (x == y)), "further factor x"),
    pooled("the last in place of the largest",
        of(lf.max_pool1d(2), lambda c, g: torch.stack([0 * g, g], -1).flatten(-2)), "wrong places",
        normal(2, 3, 6)),
    pooled("maximum of rows sent everywhere",
        layer(lambda x: (x.max(1).values, x), lambda x, g: g[:, None].expand_as(x)),
        "is summed over axis 1, which it should keep", X),
    pooled("upsampling not summed",
        layer(lambda x: (x.repeat_interleave(2, 1), None), lambda c, g: g[:, ::2]),
        "keeps one part where those of several", X),
    pooled("overlapping maxima overwritten", scattered(add=False),
        "keeps one part where those of several", OVERLAPPING),
]  # fmt: skip
RIGHT = [
    right("sigmoid written out", lambda x: ((y := 1 / (1 + torch.exp(-x))), y),
        lambda y, g: g * y - g * y**2, 300 * X),
    right("tanh by exponentials", lambda x: ((torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1), x),
        lambda x, g: 4 * g / (torch.exp(x) + torch.exp(-x)) ** 2),
    right("relu with a slope of 1/2 at zero", lambda x: (x.clamp(min=0), x),
        lambda x, g: g * torch.heaviside(x, torch.full_like(x, 0.5)),
        torch.tensor([[-1.0, 0.0, 2.0, 0.0]])),
    right("relu by float32 zeros", lambda x: (torch.relu(x), x),
        lambda x, g: torch.where(x > 0, g.float(), torch.zeros(x.shape))),
    right("elu", elu, lambda x, g: torch.where(x > 0, g, g * torch.exp(x))),
    right("abs of zeros", lambda x: (x.abs(), x), lambda x, g: g * torch.sign(x),
        torch.zeros(2, 3)),
    right("abs with numbers in where, at ties", lambda x: (x.abs(), x),
        lambda x, g: torch.where(x >= 0, 1.0, -1.0) * g, torch.tensor([-2.0, 0.0, 1.0])),
    right("square root near zero", lambda x: ((y := torch.sqrt(x)), y),
        lambda y, g: 0.5 * g / y, torch.tensor([1e-12, 1e-6, 3.0])),
    right("softmax by Jacobians, in a loop", softmax, loop),
    right("maximum, divided among ties", lambda x: (x.amax(1), x), mean_of_ties,
        torch.tensor([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]])),
    pooled("by a mask of the largest", by_windows(lambda g, x, y: g * (x == y))),
    pooled("overlapping maxima added", scattered(add=True), x=OVERLAPPING),
]  # fmt: skip
