"""torch.func's transforms go through forward and backward of every loss, with the right values.

What backward should give is taken from the same formula: the vector-Jacobian product of forward, by
autograd, and its derivatives. All is in float64, in which a wrong path shows.
"""

import pytest
import torch
from helpers import cast, normal, same_number
from helpers.losses import TABLE, X
from torch.func import jvp, vjp, vmap

import lincoln_fn as lf
from lincoln_fn.testing.sample import random_like

# torch warns of its own kl_div, of what its jvp imports, and where its vmap goes one by one.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script"),
    pytest.mark.filterwarnings("ignore:reduction:UserWarning"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
]


Z = torch.log_softmax(normal(5, 4, 3, seed=20), -1)
CTC_TARGETS = {
    "rows": (torch.tensor([[1, 1], [2, 1], [2, 7], [-1, 0]]), torch.tensor([5, 3, 4, 2]),
             torch.tensor([2, 2, 1, 0])),
    "in one row": (torch.tensor([1, 1, 2, 1, 2]), torch.tensor([5, 3, 4, 2]),
                   torch.tensor([2, 2, 1, 0])),
    "too short": (torch.tensor([[1, 1], [2, 1], [2, 7], [-1, 0]]), torch.tensor([2, 3, 0, 2]),
                  torch.tensor([2, 2, 1, 0])),
}  # fmt: skip


def cases():
    """Give each row with a mean, and each loss's first row also with a value for each element."""
    first = {row.name: row for row in reversed(TABLE)}
    for row in TABLE:
        for reduction in ("mean", "none") if row is first[row.name] else ("mean",):
            yield f"{row}-{reduction}", (row.loss(reduction), row.prediction, row.target)
    for reduction in ("mean", "none"):
        for name, target in CTC_TARGETS.items():
            loss = lf.losses.ctc(reduction=reduction, zero_infinity=name == "too short")
            yield f"{loss}-{name}", (loss, Z, target)
        loss = lf.losses.ctc(reduction=reduction)
        one = tuple(part[0] for part in CTC_TARGETS["rows"])
        yield f"{loss}-no batch", (loss, Z[:, 0], one)
    loss = lf.losses.kl_div(reduction="batchmean")
    yield f"{loss}", (loss, torch.log_softmax(X, 1), torch.softmax(X.flip(0), 1))


EVERY = [pytest.param(case, id=name) for name, case in cases()]


def assert_close(given, expected):
    """Compare with a tolerance relative to the largest number of all."""
    scale = max(leaf.abs().max().item() for leaf in lf.tree.leaves(expected))
    assert same_number(given, expected, terms=scale)


def functions(case):
    """Give forward and backward as functions of the prediction, and what backward should be."""
    loss, x, target = case[0], *cast(case[1:])

    def forward(x):
        return loss.forward(x, target)[0]

    def backward(x, g):
        return loss.backward(loss.forward(x, target)[1], g)

    def expected(x, g):
        return vjp(forward, x)[1](g)[0]

    return x, forward, backward, expected


@pytest.mark.parametrize("case", EVERY)
def test_backward_and_its_derivatives_are_those_of_the_gradient(case):
    x, forward, backward, expected = functions(case)
    g, dx = random_like(forward(x), lf.Key(2)), random_like(x, lf.Key(1))
    dg = random_like(g, lf.Key(3))
    along, truth = (jvp(f, (x, g), (dx, dg)) for f in (backward, expected))
    assert_close(along, truth)
    back, truth = (vjp(f, x, g)[1](dx) for f in (backward, expected))
    assert_close(back, truth)


@pytest.mark.parametrize("case", EVERY)
def test_vmap_goes_over_predictions_and_cotangents(case):
    x, forward, backward, _ = functions(case)
    moved = lf.tree.map(lambda leaf, d: leaf + 1e-3 * d, x, random_like(x, lf.Key(4)))
    xs = lf.tree.map(lambda *leaves: torch.stack(leaves), x, moved)
    g = random_like(forward(x), lf.Key(2))
    gs = torch.stack([g, 2 * g.flip(0) if g.ndim else -g])

    def check(given, *results):
        stacked = lf.tree.map(lambda *leaves: torch.stack(leaves), *results)
        assert_close(given, stacked)

    check(vmap(forward)(xs), forward(x), forward(moved))
    check(vmap(backward)(xs, gs), backward(x, gs[0]), backward(moved, gs[1]))
    check(vmap(backward, (None, 0))(x, gs), backward(x, gs[0]), backward(x, gs[1]))
    check(vmap(backward, (0, None))(xs, g), backward(x, g), backward(moved, g))


@pytest.mark.parametrize("row", [row for row in TABLE if row.batched], ids=str)
def test_vmap_goes_over_examples(row):
    loss = row.loss("sum")
    x, target = cast((row.prediction, row.target))
    in_dims = (0, None if target is None else 0)

    def gradient(x, target):
        x, target = lf.tree.map(lambda leaf: leaf.unsqueeze(0), (x, target))
        value, cache = loss.forward(x, target)
        return value, lf.tree.map(lambda leaf: leaf.squeeze(0), loss.backward(cache))

    values, gradients = vmap(gradient, in_dims)(x, target)
    value, cache = loss.forward(x, target)
    assert_close(values.sum(), value)
    assert_close(gradients, loss.backward(cache))


def test_vmap_goes_over_sequences():
    labels, steps, lengths = CTC_TARGETS["rows"]
    loss = lf.losses.ctc(reduction="none")

    def gradient(z, *target):
        value, cache = loss.forward(z, target)
        return value, loss.backward(cache)

    values, gradients = vmap(gradient, (1, 0, 0, 0), (0, 1))(Z, labels, steps, lengths)
    expected, dz = gradient(Z, labels, steps, lengths)
    assert_close((values, gradients), (expected, dz))
