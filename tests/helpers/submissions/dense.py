"""Dense layers."""

import torch

from helpers.submissions.submission import Submission, normal, trained

X, SQUARE = normal(5, 3), normal(5, 4, seed=1)

P = (normal(3, 4, seed=2), normal(4, seed=3))

Q = (normal(4, 4, seed=4), normal(4, seed=5))


def forward(params, x):
    w, b = params
    return x @ w + b, x


def wrong(what, dx, dw, db, says, x=X, params=P):
    def backward(params, x, g):
        w, b = params
        return dx(x, w, b, g), (dw(x, w, b, g), db(x, w, b, g))

    return Submission("dense", what, trained(forward, backward), x, says, params)


def dx(x, w, b, g):
    return g @ w.mT


def dw(x, w, b, g):
    return x.mT @ g


def db(x, w, b, g):
    return g.sum(0)


WRONG = [
    wrong("dx without transposition", lambda x, w, b, g: g @ w, dw, db, "without its transposition",
        SQUARE, Q),
    wrong("db not summed", dx, dw, lambda x, w, b, g: g, "not summed over the batch"),
    wrong("db summed over the wrong axis", dx, dw, lambda x, w, b, g: g.sum(1),
        r"is sum\(g, 1\); it should be sum\(g, 0\)"),
    wrong("db averaged", dx, dw, lambda x, w, b, g: g.mean(0), "5 times too small: averaged"),
    wrong("db zero", dx, dw, lambda x, w, b, g: 0 * b, "is zero"),
    wrong("db is the count", dx, dw, lambda x, w, b, g: torch.full_like(b, 5.0), "forgets g"),
    wrong("dw of the last example", dx, lambda x, w, b, g: torch.outer(x[-1], g[-1]), db,
        "keeps one part where those of several"),
    wrong("dx and dw exchanged signs", lambda x, w, b, g: -(g @ w.mT), dw, db, "wrong sign"),
    wrong("weight decay in dw", dx, lambda x, w, b, g: x.mT @ g + 0.1 * w, db,
        r"is its gradient \+ 1/10 w"),
    wrong("dx with the shape kept flat", lambda x, w, b, g: (g @ w.mT).flatten(), dw, db,
        "another shape"),
    wrong("dx clipped", lambda x, w, b, g: (g @ w.mT).clamp(-1, 1), dw, db, "clipped"),
    Submission("dense", "forward without bias",
        trained(lambda p, x: (x @ p[0], x), lambda p, x, g: (g @ p[0].mT, (x.mT @ g, g.sum(0)))), X,
        "forward does not depend", P),
    Submission("dense", "forward has an average, backward a sum", trained(
            lambda p, x: (x.mean(0, keepdim=True) @ p[0] + p[1], x), lambda p, x, g: (
                (g @ p[0].mT).expand_as(x), (x.sum(0, keepdim=True).mT @ g, g.sum(0)))), X,
        "5 times too large", P),
    Submission("dense", "backward raises",
        trained(forward, lambda p, x, g: (g @ p[0], (x.mT @ g, g.sum(0)))), X,
        "backward raised RuntimeError", P),
]  # fmt: skip
RIGHT = [
    Submission("dense", "by einsum", trained(
            lambda p, x: (torch.einsum("bi,io->bo", x, p[0]) + p[1], x), lambda p, x, g: (
                torch.einsum("bo,io->bi", g, p[0]), (torch.einsum("bi,bo->io", x, g), g.sum(0)))),
        X, "", P),
    Submission("dense", "in a loop over examples", trained(forward, lambda p, x, g: (
                torch.stack([p[0] @ row for row in g]), (
                    sum(torch.outer(a, b) for a, b in zip(x, g, strict=True)),
                    torch.ones(5, dtype=g.dtype) @ g))), X, "", P),
    Submission("dense", "of large numbers",
        trained(forward, lambda p, x, g: (g @ p[0].mT, (x.mT @ g, g.sum(0)))), 1e4 * X, "", P),
]  # fmt: skip
