"""Steps with their first states, and two ways to take the same steps."""

import torch

import lincoln_fn as lf
from helpers.compare import same_number

CE, MSE, SGD = lf.losses.softmax_cross_entropy(), lf.losses.mse(), lf.optim.sgd(0.1)


def begin(net, x, loss=CE, optimizer=SGD, *, key=0, gradient=None, params=None, **options):
    """Make a step of a network, and its first state; the options are those of `make_step`."""
    step = lf.make_step(net, loss, optimizer, gradient=gradient, **options)
    state = lf.init_state(net, optimizer, lf.Key(key), x, gradient=gradient, params=params)
    return step, state


def copied(tree):
    return lf.tree.map(torch.clone, tree, states=True)


def taken(step, state, *batches):
    """Take a step for each batch, and give the last state and value."""
    for batch in batches:
        state, value = step(state, batch)
    return state, value


def assert_same_steps(step, other, state, *batches, same=same_number):
    """Take steps from a state, the other ones from a copy of it, and give the last state."""
    ours, theirs = state, copied(state)
    for batch in batches:
        ours, value = step(ours, batch)
        theirs, expected = other(theirs, batch)
        assert same((ours, value), (theirs, expected))
    return ours
