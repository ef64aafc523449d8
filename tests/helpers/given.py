"""What the rows use: one network, its state, and batches that fit it."""

from inspect import currentframe

import torch

import lincoln_fn as lf
from helpers.cases.case import normal
from helpers.refusals import refusals

KEY = lf.Key(0)
X, T = normal(6, 3), torch.arange(6) % 4
NET = lf.serial(lf.dense(4), lf.log_softmax())
LOGITS = lf.dense(4)
NLL = lf.losses.nll()
SGD = lf.optim.sgd(0.1)
STATE = lf.init_state(NET, SGD, KEY, X)
PARAMS = STATE.params
STEP = lf.make_step(NET, NLL, SGD)
ACCURACY = {"accuracy": lf.metrics.accuracy}


def fit(data=(X, T), net=NET, loss=NLL, optimizer=SGD, **options):
    return lf.fit(
        net, loss, optimizer, data, **{"key": KEY, "batch_size": 2, "progress": False, **options}
    )


def step(net=NET, loss=NLL, optimizer=SGD, state=None, batch=(X, T)):
    state = lf.init_state(net, optimizer, KEY, X) if state is None else state
    return lf.make_step(net, loss, optimizer)(state, batch)


def misuses(table):
    """Make a test of a table, as `refusals` does, whose code also uses the names of this file."""
    return refusals(table, globals() | currentframe().f_back.f_globals)
