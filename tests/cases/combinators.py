"""Combinators, over layers with and without parameters."""

import torch
from torch.nn.functional import linear

import lincoln_fn as lf
from cases.case import Case, normal


def dense(params, x):
    return linear(x, params.weight.mT, params.bias)


def dense_relu_dense(params, x):
    return dense(params[2], torch.relu(dense(params[0], x)))


PAIR = (normal(5, 3), normal(4, 2, seed=1))
SAME = (normal(5, 3), normal(5, 3, seed=1), normal(5, 3, seed=2))
BLOCK = lf.serial(lf.dense(4), lf.relu(), lf.dense(3))

CASES = [
    Case(lf.identity(), normal(5, 3), lambda params, x: x * 1),
    Case(lf.add(), SAME, lambda params, x: x[0] + x[1] + x[2]),
    Case(lf.add(), SAME[:1], lambda params, x: x[0] * 1),
    Case(lf.multiply(), SAME, lambda params, x: x[0] * x[1] * x[2]),
    Case(
        lf.concatenate(),
        (normal(5, 3), normal(5, 2, seed=1)),
        lambda params, x: torch.cat(x, -1),
    ),
    Case(
        lf.concatenate(dim=1),
        (normal(5, 3, 2), normal(5, 1, 2, seed=1), normal(5, 4, 2, seed=2)),
        lambda params, x: torch.cat(x, 1),
    ),
    Case(lf.residual(BLOCK), normal(5, 3), lambda p, x: dense_relu_dense(p[0], x) + x),
    Case(
        lf.residual(lf.serial(lf.dense(4), lf.tanh()), lf.dense(4, bias=False)),
        normal(5, 3),
        lambda p, x: torch.tanh(dense(p[0][0], x)) + dense(p[1], x),
    ),
    Case(
        lf.parallel(lf.dense(4), lf.tanh()),
        PAIR,
        lambda p, x: (dense(p[0], x[0]), torch.tanh(x[1])),
    ),
    Case(
        lf.branch(lf.dense(4), lf.serial(lf.tanh(), lf.dense(4))),
        normal(5, 3),
        lambda p, x: dense(p[0], x) + dense(p[1][1], torch.tanh(x)),
    ),
    Case(
        lf.branch(lf.dense(4), lf.tanh(), lf.dense(2), merge=lf.concatenate()),
        normal(5, 3),
        lambda p, x: torch.cat([dense(p[0], x), torch.tanh(x), dense(p[2], x)], -1),
    ),
    Case(
        lf.branch(lf.dense(4), lf.serial(lf.dense(4), lf.sigmoid()), merge=lf.multiply()),
        normal(5, 3),
        lambda p, x: dense(p[0], x) * torch.sigmoid(dense(p[1][0], x)),
    ),
    Case(
        lf.branch(lf.add(), lf.multiply(), merge=lf.concatenate()),
        SAME[:2],
        lambda p, x: torch.cat([x[0] + x[1], x[0] * x[1]], -1),
    ),
    Case(
        lf.shared(BLOCK),
        (normal(5, 3), normal(2, 3, seed=1)),
        lambda p, x: (dense_relu_dense(p, x[0]), dense_relu_dense(p, x[1])),
    ),
    Case(
        lf.repeat(3, lf.serial(lf.dense(3), lf.tanh())),
        normal(5, 3),
        lambda p, x: torch.tanh(
            dense(p[2][0], torch.tanh(dense(p[1][0], torch.tanh(dense(p[0][0], x)))))
        ),
    ),
    Case(lf.frozen(BLOCK), normal(5, 3), lambda p, x: dense_relu_dense(p.params, x)),
    Case(
        lf.serial(lf.frozen(lf.dense(4)), lf.tanh(), lf.dense(2), lf.frozen(lf.dense(6))),
        normal(5, 3),
        lambda p, x: dense(p[3].params, dense(p[2], torch.tanh(dense(p[0].params, x)))),
    ),
    Case(lf.checkpointed(BLOCK), normal(5, 3), dense_relu_dense),
    Case(lf.in_dtype(BLOCK, torch.float64), normal(5, 3), dense_relu_dense),
    Case(lf.in_dtype(BLOCK, torch.float64, torch.float64), normal(5, 3), dense_relu_dense),
]
