"""Compositions of layers with a state."""

import torch

import lincoln_fn as lf
from helpers.cases.case import normal

BLOCK = lf.serial(lf.dense(4), lf.batch_norm(), lf.dropout(0.4), lf.dense(3))
X = normal(6, 3)
STATEFUL = {
    "serial": (lf.serial(BLOCK, lf.tanh(), BLOCK), X),
    "residual": (lf.residual(BLOCK), X),
    "residual with a shortcut": (lf.residual(BLOCK, lf.serial(lf.dropout(0.3), lf.dense(3))), X),
    "parallel": (lf.parallel(BLOCK, lf.dropout()), (X, normal(5, 2, seed=1))),
    "branch": (lf.branch(BLOCK, lf.dropout(0.2), merge=lf.concatenate()), X),
    "shared": (lf.shared(BLOCK), (X, normal(5, 3, seed=1), normal(7, 3, seed=2))),
    "tied": (lf.tied(lf.embedding(7, 3), BLOCK), torch.tensor([1, 6, 0, 1, 3])),
    "tied to frozen": (lf.tied(lf.frozen(lf.embedding(7, 3)), BLOCK), torch.tensor([1, 6, 0, 1])),
    "tied with context": (lf.tied(lf.embedding(7, 3),
            lf.serial(lf.parallel(lf.identity(), lf.embedding(5, 3)), lf.multiply(), BLOCK)),
        (torch.tensor([1, 6, 0, 1]), torch.tensor([4, 0, 2, 2]))),
    "tied with a context that has a gradient": (
        lf.tied(lf.embedding(7, 3), lf.serial(lf.multiply(), BLOCK)),
        (torch.tensor([1, 6, 0, 1]), normal(4, 3))),
    "repeat": (lf.repeat(2, BLOCK), X),
    "frozen": (lf.frozen(BLOCK), X),
    "checkpointed": (lf.checkpointed(BLOCK), X),
    "shared checkpointed": (lf.shared(lf.checkpointed(BLOCK)), (X, normal(5, 3, seed=1))),
    "checkpointed shared": (lf.checkpointed(lf.shared(BLOCK)), (X, normal(5, 3, seed=1))),
    "in dtype": (lf.in_dtype(BLOCK, torch.float64), X),
    "frozen in checkpointed": (lf.checkpointed(lf.serial(lf.frozen(BLOCK), lf.dense(2))), X),
}  # fmt: skip
