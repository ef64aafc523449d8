"""Solve a differential equation by a network: u'' = f on [0, 1], with u = 0 at both ends.

u is a network times x (1 - x), so that it is 0 at the ends. `jvp` of `jvp` has its second
derivative, which is trained to be f: what is called a physics-informed neural network. With
f = -pi^2 sin(pi x), the solution is sin(pi x). It takes about five seconds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import torch
from options import positive_int

import lincoln_fn as lf


def make_u() -> lf.Layer:
    """Make the solution: a network of one number, and 0 at both ends."""
    net = lf.serial(lf.dense(32), lf.tanh(), lf.dense(32), lf.tanh(), lf.dense(1))
    return lf.graph(lambda x: x * (1 - x) * x.apply(net))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the network, and print it beside the solution."""
    parser = argparse.ArgumentParser(description=__doc__)
    steps = "steps of L-BFGS, of 20 moves each"
    parser.add_argument("--steps", type=positive_int, default=6, help=steps)
    points = "where the equation is to hold"
    parser.add_argument("--points", type=positive_int, default=64, help=points)
    options = parser.parse_args(arguments)

    u = make_u()
    second = lf.serial(lf.jvp(lf.jvp(u)), lf.select(1), lf.select(1))  # ((u, u'), (u', u''))
    x = torch.linspace(0, 1, options.points).unsqueeze(1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    batch = ((x, one), (one, zero)), -(math.pi**2) * (math.pi * x).sin()

    params = second.init(lf.Key(0), batch[0])
    step = lf.optim.lbfgs(lf.value_and_gradient(second, lf.losses.mse()))
    state = lf.optim.lbfgs_state(params)
    for state, record in lf.train(step, state, [batch] * options.steps):
        print(f"step {record.step}: mean of (u'' - f)^2 was {record.loss:.2e}")

    between = torch.linspace(0, 1, 101).unsqueeze(1)
    found, exact = u.predict(state.params[0], between), (math.pi * between).sin()
    print("  x    u(x)     sin(pi x)")
    for i in range(0, 101, 25):
        print(f"{between[i].item():.2f}  {found[i].item():.6f}  {exact[i].item():.6f}")
    print(f"largest error {(found - exact).abs().max():.2e}")


if __name__ == "__main__":
    main()
