"""Submissions that a second teacher wrote: gates, skipped steps, lost axes, shared windows."""

from typing import Any

import torch
from torch.nn import functional

from helpers.submissions.submission import Submission, layer, normal, trained

X = normal(4, 5)
SQUARE = normal(4, 4, seed=1)


def one(family: str, what: str, forward: Any, dx: Any, says: str, x: Any = X) -> Submission:
    """A layer of one line there, and one line back."""
    made = layer(lambda x: (forward(x), x), dx)
    return Submission(family, what, made, x, says)


def two_gates(what: str, dz: Any, says: str) -> Submission:
    """Two gates by one sigmoid."""

    def forward(w: Any, x: Any) -> Any:
        r, z = torch.sigmoid(x @ w).chunk(2, -1)
        return torch.tanh(r) * z, (x, r, z)

    def backward(w: Any, cache: Any, g: Any) -> Any:
        x, r, z = cache
        t = torch.tanh(r)
        da = torch.cat([g * z * (1 - t**2) * r * (1 - r), dz(g * t, z)], -1)
        return da @ w.mT, x.mT @ da

    made = trained(forward, backward)
    return Submission("gates", what, made, X, says, normal(5, 6, seed=2))


def mean_of_ties(x: Any, g: Any) -> Any:
    """The gradient of a maximum, divided among ties."""
    is_largest = (x == x.amax(1, keepdim=True)).to(x)
    return g[:, None] * is_largest / is_largest.sum(1, keepdim=True)


def scattered(x: Any, g: Any, add: bool) -> Any:
    """The gradient of a maximum of overlapping windows."""
    places = functional.max_pool1d(x, 3, 1, return_indices=True)[1]
    wrong = torch.zeros_like(x)
    return wrong.scatter_add(2, places, g) if add else wrong.scatter(2, places, g)


WRONG = [
    one("activation", "softmax: keepdim forgotten", lambda x: torch.softmax(x, 1),
        lambda x, g: torch.softmax(x, 1) * (g - (g * torch.softmax(x, 1)).sum(1)),
        r"is wrong in 12 of 16 places", SQUARE),
    one("activation", "cumulative sum: sum of all steps", lambda x: x.cumsum(1),
        lambda x, g: g.sum(1, keepdim=True).expand_as(g), r"is sum\(g, 1\), not its gradient"),
    one("activation", "x / |x|: the norm's factor missing",
        lambda x: x / x.norm(dim=1, keepdim=True),
        lambda x, g: g - x * (g * x).sum(1, keepdim=True) / x.square().sum(1, keepdim=True),
        r"has the further factor `x\.norm\(dim=1"),
    one("dropout", "keep for 1/keep", lambda x: x * (x > 0) / 0.4,
        lambda x, g: g * (x > 0) * 0.4, r"is 6\.25 times too small"),
    one("pooling", "overlapping maxima overwritten", lambda x: functional.max_pool1d(x, 3, 1),
        lambda x, g: scattered(x, g, add=False),
            "keeps one part where those of several", normal(2, 2, 7)),
    one("several outputs", "one of them forgotten", lambda x: (torch.sin(x), x**2),
        lambda x, g: g[0] * torch.cos(x), "forgets g.1"),
    two_gates("derivative of one gate missing", lambda g, z: g,
        "da, the gradient of `x @ w`, is not right"),
    two_gates("1 - z for z (1 - z)", lambda g, z: g * (1 - z),
        "da, the gradient of `x @ w`, lacks the factor"),
]  # fmt: skip
RIGHT = [
    two_gates("as the chain rule has it", lambda g, z: g * z * (1 - z), ""),
    one("pooling", "overlapping maxima added", lambda x: functional.max_pool1d(x, 3, 1),
        lambda x, g: scattered(x, g, add=True), "", normal(2, 2, 7)),
    one("activation", "|x| with numbers in where, at ties", torch.abs,
        lambda x, g: torch.where(x >= 0, 1.0, -1.0) * g, "", torch.tensor([-2.0, 0.0, 1.0])),
    one("activation", "square of a list of numbers",
        lambda x: torch.tensor([v * v for v in x.flatten().tolist()]),
        lambda x, g: 2 * x * torch.tensor(g.tolist()).view(4, 5), ""),
    one("activation", "maximum, divided among ties", lambda x: x.amax(1), mean_of_ties, "",
        torch.tensor([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]])),
]  # fmt: skip
