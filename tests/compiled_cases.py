"""Hold compiled steps to account: steps of every layer, loss and optimizer of the tests' tables.

    python tests/compiled_cases.py                      all: forty minutes on a core
    python tests/compiled_cases.py transformer adam     those with such a word in their name

It compares three compiled steps' losses and states with eager ones'. The suite, run at every
commit, compiles some dozens of networks in its place.
"""

import sys
from functools import partial

import torch
from cases import CASES
from test_losses_table import TABLE as LOSSES
from test_losses_table import to
from test_optimizers import RICH, matrices, parameters
from test_optimizers import TABLE as OPTIMIZERS

import lincoln_fn as lf


def energy():
    """Give the mean squares of whatever a layer returns, summed, as a loss."""

    def values(z, target):
        leaves = [leaf for leaf in lf.tree.leaves(z) if leaf.is_floating_point()]
        return sum(leaf.pow(2).mean() for leaf in leaves), z

    def backward(z, g=1.0):
        def slope(leaf):
            return 2 * g * leaf / leaf.numel() if leaf.is_floating_point() else None

        return lf.tree.map(slope, z)

    return lf.Loss("energy()", values, backward)


def scaled(layer):
    """Put a parameter before a layer that multiplies its input, and so asks for its dx."""

    def floats(arrays):
        return [leaf for leaf in lf.tree.leaves(arrays) if leaf.is_floating_point()]

    def forward(p, x):
        return lf.tree.map(lambda leaf: p * leaf if leaf.is_floating_point() else leaf, x), x

    def backward(p, x, g):
        pairs = zip(floats(x), floats(g), strict=True)
        return None, sum(((leaf * dy).sum() for leaf, dy in pairs), torch.zeros(()))

    first = lf.Layer("scaled()", forward, backward, lambda key, x: torch.tensor(1.1))
    return lf.serial(first, layer)


def given(params):
    """Make a layer whose y is its params, which begin as these."""
    return lf.Layer(
        "given()",
        lambda params, x: (params, ()),
        lambda params, cache, g: (None, g),
        lambda key, x: params,
    )


def everything():
    """Give for each name a network, a loss, an optimizer and a batch."""
    nothing = torch.zeros(1)
    for case in CASES:
        x = lf.tree.map(lambda leaf: leaf.float() if leaf.is_floating_point() else leaf, case.x)
        yield str(case), (scaled(case.layer), energy(), lf.optim.sgd(0.05), (x, nothing))
    for row in LOSSES:
        prediction, target = to(torch.float64, row.prediction), to(torch.float64, row.target)
        batch = nothing, target
        yield str(row), (given(prediction), row.loss("mean"), lf.optim.sgd(0.01), batch)
    optimizers = [(f"{make.__name__}({of})", make(**of)) for make, _, of in OPTIMIZERS]
    optimizers += [(str(optimizer), optimizer) for optimizer in RICH]
    for name, optimizer in optimizers:
        net = given(parameters(torch.float64))
        yield name, (net, energy(), optimizer, (nothing, nothing))
    muon = given(tuple(matrices(torch.float64)))
    yield "muon()", (muon, energy(), lf.optim.muon(), (nothing, nothing))


def states(step, net, optimizer, batch):
    """Give the numbers of three states, each after its loss."""
    state, numbers = lf.init_state(net, optimizer, lf.Key(0), batch[0]), []
    for _ in range(3):
        state, value = step(state, batch)
        numbers.append((value, lf.tree.leaves(state, states=True)))
    return numbers


def differs(net, loss, optimizer, batch):
    """Tell how compiled steps differ from eager ones; None if they do not."""
    step = lf.make_step(net, loss, optimizer)
    run = partial(states, net=net, optimizer=optimizer, batch=batch)
    try:
        torch.testing.assert_close(run(lf.compile(step)), run(step), rtol=1e-4, atol=1e-4)
    except Exception as error:  # whatever is raised is a finding
        return f"{type(error).__name__}: {error}"
    return None


def main():
    words = sys.argv[1:]
    chosen = {
        name: parts
        for name, parts in everything()
        if not words or any(word in name for word in words)
    }
    found = 0
    for name, parts in chosen.items():
        problem = differs(*parts)
        if problem:
            found += 1
            print(f"{name}\n    {problem.splitlines()[0]}", flush=True)
    print(f"{len(chosen)} cases, {found} differ")
    return found > 0


if __name__ == "__main__":
    sys.exit(main())
