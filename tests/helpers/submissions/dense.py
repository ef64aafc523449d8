"""Dense layers, products, embeddings, indexing and shapes."""

import torch
from torch.nn import functional

from helpers.submissions.submission import Code, Submission, layer, normal, trained

X, SQUARE = normal(5, 3), normal(5, 4, seed=1)
Q = (normal(4, 4, seed=4), normal(4, seed=5))
OTHER = normal(5, 3, seed=10)
TOKENS = torch.tensor([[1, 2, 1], [0, 1, 4]])


def dense(x, w, b):
    return x @ w + b, (x, w)


def dense_backward(g, cache):
    x, w = cache
    return g @ w.mT, x.mT @ g, g.sum(0)


def without_bias(x, w, b):
    return x @ w, (x, w)


DENSE = Code("dense", dense, dense_backward, (X, normal(3, 4, seed=2), normal(4, seed=3)), np=torch)


def added(w, x, g):
    return torch.zeros_like(w).index_add(0, x.flatten(), g.flatten(0, 1))


def embedding(what, says, dw):
    made = trained(lambda w, x: (w[x], x), lambda w, x, g: (None, dw(w, x, g)))
    return Submission("embedding", what, made, TOKENS, says, normal(6, 3, seed=6))


def assigned(w, x, g):
    dw = torch.zeros_like(w)
    for i, index in enumerate(x.flatten()):
        dw[index] = g.flatten(0, 1)[i]
    return dw


def gathered_backward(index, g):
    dx = torch.zeros(g.shape[0], 3, dtype=g.dtype)
    dx[:, index] = g
    return dx


def one(family, what, forward, dx, says="", x=X):
    """A layer of one line there, and one line back."""
    return Submission(family, what, layer(lambda x: (forward(x), x), dx), x, says)


WRONG = [
    DENSE.submission("dx without transposition", "without its transposition", {"w.mT": "w"},
        arrays=(SQUARE, *Q)),
    DENSE.submission("db not summed", "not summed over the batch", {"g.sum(0)": "g"}),
    DENSE.submission("db summed over the wrong axis", r"is sum\(g, 1\); it should be sum\(g, 0\)",
        {"g.sum(0)": "g.sum(1)"}),
    DENSE.submission("db averaged", "5 times too small: averaged", {"sum": "mean"}),
    DENSE.submission("db zero", "is zero", {"g.sum(0)": "0 * w[0]"}),
    DENSE.submission("db is the count", "forgets g", {"g.sum(0)": "torch.full_like(w[0], 5.0)"}),
    DENSE.submission("dw of the last example", "keeps one part where those of several",
        {"x.mT @ g": "torch.outer(x[-1], g[-1])"}),
    DENSE.submission("weight decay in dw", r"is its gradient \+ 1/10 w",
        {"x.mT @ g": "x.mT @ g + 0.1 * w"}),
    DENSE.submission("dx with the shape kept flat", "another shape",
        {"g @ w.mT": "(g @ w.mT).flatten()"}),
    DENSE.submission("dx clipped", "clipped", {"g @ w.mT": "(g @ w.mT).clamp(-1, 1)"}),
    DENSE.submission("forward without bias", "forward does not depend", forward=without_bias),
    DENSE.submission("backward raises", "backward raised RuntimeError", {"w.mT": "w"}),
    Submission("product", "own factor",
        trained(lambda s, x: (s * x, x), lambda s, x, g: (g * x, (g * x).sum(0))), X,
        r"has x in place of the other factor of mul\(\)", normal(3, seed=9)),
    one("product", "two inputs exchanged", lambda x: x[0] * x[1], lambda x, g: (g * x[0], g * x[1]),
        "are swapped", (X, OTHER)),
    one("product", "quotient without the square", lambda x: x[0] / x[1],
        lambda x, g: (g / x[1], -g * x[0] / x[1]), r"has the further factor x\.1 in the path",
        (X, OTHER.abs() + 1)),
    Submission("product", "bilinear: inputs exchanged", trained(
            lambda w, x: (torch.einsum("bi,oij,bj->bo", x[0], w, x[1]), x), lambda w, x, g: ((
                    torch.einsum("bo,oij,bi->bj", g, w, x[0]),
                    torch.einsum("bo,oij,bj->bi", g, w, x[1])),
                torch.einsum("bo,bi,bj->oij", g, *x))), (X, OTHER), "are swapped",
        normal(4, 3, 3, seed=11)),
    embedding("overwritten at repeated indices", "keeps one part where those of several", assigned),
    embedding("averaged over the tokens", "6 times too small",
        lambda w, x, g: added(w, x, g) / 6),
    embedding("dense gradient of ones", "forgets g",
        lambda w, x, g: added(w, x, torch.ones_like(g))),
    embedding("index shifted by one", "in the wrong places: moved",
        lambda w, x, g: added(w, (x + 1) % 6, g)),
    Submission("indexing", "overwritten at repeated indices",
        layer(lambda x: (x[:, [0, 2, 2, 1]], [0, 2, 2, 1]), gathered_backward), X,
        "keeps one part where those of several"),
    one("shape", "reshape for transpose", lambda x: x.mT, lambda c, g: g.reshape(5, 3), "reshaped"),
    one("shape", "concatenation's parts exchanged", lambda x: torch.cat(x, 1),
        lambda c, g: (g[:, 3:], g[:, :3]), "are swapped", (X, OTHER)),
    one("shape", "mean without 1/N", lambda x: x.mean(1), lambda x, g: g[:, None].expand_as(x),
        "3 times too large"),
    one("shape", "sum's gradient to the first alone", lambda x: x.sum(0),
        lambda x, g: torch.cat([g[None], torch.zeros_like(x[1:])]),
        r"is wrong in 12 of 15 places, .* \(line \d+\)"),
    one("shape", "flip not undone", lambda x: x.flip(1), lambda c, g: g,
        "in the wrong places: moved"),
    one("shape", "cumulative sum: sum of all steps", lambda x: x.cumsum(1),
        lambda x, g: g.sum(1, keepdim=True).expand_as(g), r"is sum\(g, 1\), not its gradient"),
    one("several outputs", "one of them forgotten", lambda x: (torch.sin(x), x**2),
        lambda x, g: g[0] * torch.cos(x), "forgets g.1"),
]  # fmt: skip
RIGHT = [
    DENSE.submission("by einsum", changes={
        "g @ w.mT, x.mT @ g": 'torch.einsum("bo,io->bi", g, w), torch.einsum("bi,bo->io", x, g)'}),
    DENSE.submission("in a loop over examples", changes={
        "g @ w.mT": "torch.stack([w @ row for row in g])",
        "x.mT @ g": "sum(torch.outer(a, b) for a, b in zip(x, g))",
        "g.sum(0)": "torch.ones(5, dtype=g.dtype) @ g"}),
    DENSE.submission("of large numbers", arrays=(1e4 * X, *DENSE.arrays[1:])),
    embedding("as a product with one-hot rows", "",
        lambda w, x, g: functional.one_hot(x, 6).to(w).flatten(0, 1).mT @ g.flatten(0, 1)),
    one("product", "outer product", lambda x: x[0][:, None] * x[1],
        lambda x, g: ((g * x[1]).sum(1), (g * x[0][:, None]).sum(0)),
        x=(normal(4), normal(3, seed=1))),
    one("product", "square of a list of numbers",
        lambda x: torch.tensor([v * v for v in x.flatten().tolist()]),
        lambda x, g: 2 * x * torch.tensor(g.tolist()).view(5, 3)),
]  # fmt: skip
