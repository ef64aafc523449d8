"""Runs with a planted fault, for the tests of replay."""

import math

import attrs
import torch

import lincoln_fn as lf
from helpers.cases.case import normal
from helpers.steps import begin

STEPS = 60
X, TARGET = normal(90, 6), normal(90, 2, seed=1)
LOSS = lf.losses.mse()
SGD, ADAM = lf.optim.sgd(0.05), lf.optim.adam(0.01)


@lf.record
class Count(lf.State):
    """How many steps a layer has taken."""

    steps: torch.Tensor


def faulty(layer, change):
    """Make a layer that knows its step, and let change(step, (dx, dparams)) spoil its gradients."""

    def init(key, x):
        return layer.init(key, x), Count(torch.tensor(0))

    def backward(params, cache, g):
        inner, count = params
        dx, dparams = change(count.steps + 1, layer.backward(inner, cache, g))
        return dx, (dparams, count)

    return lf.Layer(
        f"faulty({layer.name})",
        lambda params, x: layer.forward(params[0], x),
        backward,
        init,
        advance=lambda params, cache: (params[0], Count(params[1].steps + 1)),
    )


def sound(step, gradients):
    return gradients


def small_error(step, gradients):
    dx, dparams = gradients
    error = torch.where(step >= 35, 1e-6, 0.0)
    weight = dparams.weight.index_put((torch.tensor(3), torch.tensor(1)), error, accumulate=True)
    return dx, lf.evolve(dparams, weight=weight)


def infinite_dx(step, gradients):
    dx, dparams = gradients
    spoilt = dx.index_put((torch.tensor(4), torch.tensor(2)), torch.tensor(math.inf))
    return torch.where(step == 41, spoilt, dx), dparams


def network(change):
    return lf.serial(
        lf.dense(7),
        lf.residual(lf.serial(lf.tanh(), faulty(lf.dense(7), change), lf.dropout(0.2))),
        lf.dense(2),
    )


def start_of(net, optimizer=ADAM):
    return lf.init_state(net, optimizer, lf.Key(3), X)


BATCHES = lf.data.batches((X, TARGET), 9, key=lf.Key(4), epochs=6)


def run_of(net, batches=None, optimizer=ADAM):
    """Make a run that no state is saved of."""
    step, state = begin(net, X, LOSS, optimizer, key=3)
    return lf.replay.Run(step, batches or BATCHES, state)


@attrs.define
class Counted:
    """A step that counts how often it is taken."""

    step: object
    taken: int = 0

    def __call__(self, state, batch):
        self.taken += 1
        return self.step(state, batch)


def trained(net, optimizer=ADAM, steps=STEPS, every=6, **options):
    """Train, and give the run with its saved states."""
    step = lf.make_step(net, LOSS, optimizer, **options)
    state, start, saved = start_of(net, optimizer), start_of(net, optimizer), []
    while int(state.step) < steps:
        try:
            state, _ = step(state, BATCHES.at(int(state.step)))
        except lf.NonFiniteError:
            break
        if int(state.step) % every == 0:
            # A copy, for a donated step writes over what it is given.
            saved.append(lf.tree.map(torch.clone, state, states=True))
    return lf.replay.Run(step, BATCHES, start, saved)
