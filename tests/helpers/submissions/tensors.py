"""Products, embeddings, indexing and shapes."""

import torch

from helpers.submissions.submission import Submission, layer, normal, trained

X, SQUARE = normal(5, 3), normal(5, 4, seed=1)

TOKENS = torch.tensor([[1, 2, 1], [0, 1, 4]])

ROWS = normal(6, 3, seed=6)


def dx(x, w, b, g):
    return g @ w.mT


def dw(x, w, b, g):
    return x.mT @ g


def embedding(backward):
    return trained(lambda w, x: (w[x], x), lambda w, x, g: (None, backward(w, x, g)))


def added(w, x, g):
    return torch.zeros_like(w).index_add(0, x.flatten(), g.flatten(0, 1))


def assigned(w, x, g):
    dw = torch.zeros_like(w)
    for i, index in enumerate(x.flatten()):
        dw[index] = g.flatten(0, 1)[i]
    return dw


def gathered(x):
    index = torch.tensor([0, 2, 2, 1])
    return x[:, index], index


def gathered_backward(index, g):
    dx = torch.zeros(g.shape[0], 3, dtype=g.dtype)
    dx[:, index] = g
    return dx


WRONG = [
    Submission("product", "own factor",
        trained(lambda s, x: (s * x, x), lambda s, x, g: (g * x, (g * x).sum(0))), X,
        r"has x in place of the other factor of mul\(\)", normal(3, seed=9)),
    Submission("product", "two inputs exchanged",
        layer(lambda x: (x[0] * x[1], x), lambda x, g: (g * x[0], g * x[1])),
        (X, normal(5, 3, seed=10)), "are swapped"),
    Submission("product", "quotient without the square",
        layer(lambda x: (x[0] / x[1], x), lambda x, g: (g / x[1], -g * x[0] / x[1])),
        (X, normal(5, 3, seed=10).abs() + 1), r"has the further factor x\.1 in the path"),
    Submission("product", "quotient's sign",
        layer(lambda x: (x[0] / x[1], x), lambda x, g: (g / x[1], g * x[0] / x[1] ** 2)),
        (X, normal(5, 3, seed=10).abs() + 1), "wrong sign"),
    Submission("embedding", "overwritten at repeated indices", embedding(assigned), TOKENS,
        "keeps one part where those of several", ROWS),
    Submission("embedding", "averaged over the tokens",
        embedding(lambda w, x, g: added(w, x, g) / 6), TOKENS, "6 times too small", ROWS),
    Submission("embedding", "dense gradient of ones",
        embedding(lambda w, x, g: added(w, x, torch.ones_like(g))), TOKENS, "forgets g", ROWS),
    Submission("embedding", "index shifted by one",
        embedding(lambda w, x, g: added(w, (x + 1) % 6, g)), TOKENS, "in the wrong places: moved",
        ROWS),
    Submission("indexing", "overwritten at repeated indices", layer(gathered, gathered_backward), X,
        "keeps one part where those of several"),
    Submission("shape", "reshape for transpose",
        layer(lambda x: (x.mT, None), lambda c, g: g.reshape(5, 3)), X, "reshaped"),
    Submission("shape", "concatenation's parts exchanged",
        layer(lambda x: (torch.cat(x, 1), None), lambda c, g: (g[:, 3:], g[:, :3])),
        (X, normal(5, 3, seed=10)), "are swapped"),
    Submission("shape", "mean without 1/N",
        layer(lambda x: (x.mean(1), x), lambda x, g: g[:, None].expand_as(x)), X,
        "3 times too large"),
    Submission("shape", "sum's gradient to the first alone",
        layer(lambda x: (x.sum(0), x), lambda x, g: torch.cat([g[None], torch.zeros_like(x[1:])])),
        X, r"is wrong in 12 of 15 places, .* \(line \d+\)"),
    Submission("shape", "flip not undone", layer(lambda x: (x.flip(1), None), lambda c, g: g), X,
        "in the wrong places: moved"),
    Submission("shape", "roll undone in the wrong direction",
        layer(lambda x: (x.roll(1, 1), None), lambda c, g: g.roll(1, 1)), normal(2, 5),
        "in the wrong places: moved"),
]  # fmt: skip
RIGHT = [
    Submission("embedding", "as a product with one-hot rows", trained(
            lambda w, x: (torch.nn.functional.one_hot(x, 6).to(w.dtype) @ w, x), lambda w, x, g: (
                None,
                torch.nn.functional.one_hot(x, 6).to(w.dtype).flatten(0, 1).mT @ g.flatten(0, 1))),
        TOKENS, "", ROWS),
    Submission("product", "outer product", layer(lambda x: (x[0][:, None] * x[1], x),
            lambda x, g: ((g * x[1]).sum(1), (g * x[0][:, None]).sum(0))),
        (normal(4), normal(3, seed=1))),
]  # fmt: skip
