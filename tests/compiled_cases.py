"""Hold compiled steps to account: a step of every layer in the table, beside the eager one.

    python tests/compiled_cases.py                      every case: a quarter of an hour on a core
    python tests/compiled_cases.py transformer norm     those with such a word in their name

It compares the loss and the new state in float32. The suite, run at every commit, compiles a
dozen networks of many layers in its place.
"""

import sys

import torch
from cases import CASES

import lincoln_fn as lf


def energy():
    """Give the sum of all squares of whatever a layer returns, as a loss."""

    def values(z, target):
        leaves = [leaf for leaf in lf.tree.leaves(z) if leaf.is_floating_point()]
        return sum(leaf.pow(2).sum() for leaf in leaves), z

    def backward(z, g=1.0):
        return lf.tree.map(lambda leaf: 2 * g * leaf if leaf.is_floating_point() else None, z)

    return lf.Loss("energy()", values, backward)


def differs(case):
    """Tell how a case's compiled step differs from the eager one; None if it does not."""
    x = lf.tree.map(lambda leaf: leaf.float() if leaf.is_floating_point() else leaf, case.x)
    step = lf.make_step(case.layer, energy(), lf.optim.sgd(0.01))
    state = lf.init_state(case.layer, step.optimizer, lf.Key(0), x)
    batch = x, torch.zeros(1)
    expected = lf.tree.leaves(step(state, batch), states=True)
    try:
        given = lf.tree.leaves(lf.compile(step)(state, batch), states=True)
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)
    except Exception as error:  # whatever Inductor raises is a finding
        return f"{type(error).__name__}: {error}"
    return None


def main():
    words = sys.argv[1:]
    cases = [case for case in CASES if not words or any(word in str(case) for word in words)]
    found = 0
    for case in cases:
        problem = differs(case)
        if problem:
            found += 1
            print(f"{case}\n    {problem.splitlines()[0]}", flush=True)
    print(f"{len(cases)} cases, {found} differ")
    return found > 0


if __name__ == "__main__":
    sys.exit(main())
