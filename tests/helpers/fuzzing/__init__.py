"""Random networks, losses and optimizers, each drawn from a seed, and how their steps compare."""
