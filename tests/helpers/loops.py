"""Parts and inputs of the combinators that loop: cells, fields, blocks, and a padded sequence."""

import torch

import lincoln_fn as lf
from helpers.cases.case import normal

ROWS, HALVES = normal(5, 3), normal(7, 6)
SMALL = lf.initializers.normal(0.15)
# z' = tanh(x W + b + dropout(z) U), whose state is a key.
STEP = lf.serial(
    lf.parallel(lf.dense(4), lf.serial(lf.dropout(0.3), lf.dense(4, weight_init=SMALL))),
    lf.add(),
    lf.tanh(),
)
FIELD = lf.serial(lf.dense(4), lf.tanh(), lf.dropout(0.3), lf.dense(3))
IN_TIME = lf.serial(lf.concatenate(), lf.dense(4), lf.tanh(), lf.dense(3))
F = lf.serial(lf.dense(3), lf.tanh(), lf.dropout(0.4))
H = lf.serial(lf.dense(5), lf.batch_norm(), lf.tanh(), lf.dense(3))
THREE_BLOCKS = lf.reversible((F, H), (H, lf.tanh()), (lf.dense(3), F))

SEQUENCE, STATE = normal(4, 6, 3), normal(4, 5, seed=1)
PAIR = (normal(4, 5, seed=2), normal(4, 5, seed=3))
LENGTHS = torch.tensor([3, 1, 6, 4])
MASK = torch.arange(6) < LENGTHS[:, None]
OWN = lf.serial(lf.parallel(lf.dense(5), lf.dense(5)), lf.add(), lf.tanh())
# A cell of one's own, with dropout and batch norm: s' = tanh(bn(x) W + dropout(s) U).
MIXED = lf.serial(
    lf.parallel(lf.serial(lf.batch_norm(), lf.dense(5)), lf.serial(lf.dropout(0.4), lf.dense(5))),
    lf.add(),
    lf.tanh(),
)


def pair(*layers):
    return lf.branch(*layers, merge=lf.identity())


# Cells that return an output beside the state.
OWN_OUTPUT, OUTPUT = (lf.serial(cell, pair(lf.dense(2), lf.identity())) for cell in (OWN, MIXED))
