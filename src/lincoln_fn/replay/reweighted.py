"""A run with other weights of its examples, and how smoothly training depends on them."""

from __future__ import annotations

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import compiler
from lincoln_fn.compiler.internal import CompiledRun
from lincoln_fn.core import Key, LayerError, NonNegativeInt, Positive, checked, keys, tree
from lincoln_fn.losses import example_weighted
from lincoln_fn.losses.internal import unweighted
from lincoln_fn.replay.run import Run, State
from lincoln_fn.training import Batches, Step, make_step


@checked
def reweighted(run: Run, weights: Float[Tensor, " N"]) -> Run:
    """Give the examples of a run other weights in the loss: 0 leaves one out.

    Everything else stays: the order of the batches, the first state, the dropout. A mean still
    divides by the number of all examples.

    Args:
        run: the run, with a step of `make_step` and batches of `data.batches`. Its saved states are
            left out.
        weights: one for each row of the data.

    Returns:
        The run, whose loss is `losses.example_weighted` of the run's own.

    Raises:
        LayerError: if the run has another step or other batches, or there is not one weight for
            each row.

    Example:
        >>> x, t = torch.ones(4, 3), torch.zeros(4, 1)
        >>> net, optimizer = lf.dense(1), lf.optim.sgd(0.1)
        >>> step = lf.make_step(net, lf.losses.mse(), optimizer)
        >>> start = lf.init_state(net, optimizer, lf.Key(0), x)
        >>> run = Run(step, lf.data.batches((x, t), 2), start)
        >>> without_first = reweighted(run, torch.tensor([0.0, 1.0, 1.0, 1.0]))
        >>> without_first.step.loss
        example_weighted(mse())
    """
    step, batches = run.step, run.batches
    if not isinstance(step, Step) or not isinstance(batches, Batches):
        problem = f"a step of make_step and batches of data.batches, got {run.step!r}"
        raise LayerError("reweighted", f"expected {problem} and {type(batches).__name__}")
    if weights.shape != (batches.examples,):
        problem = f"expected weights of shape ({batches.examples},), one for each row of the data"
        raise LayerError("reweighted", f"{problem}, got {tuple(weights.shape)}")
    x, target = batches.arrays
    weights = weights.to(tree.leaves(run.start.params)[0])
    if unweighted(step.loss) is not None:
        arrays = x, (target[0], target[1] * weights)
    else:
        arrays, loss, was = (x, (target, weights)), example_weighted(step.loss), step
        step = make_step(
            was.net,
            loss,
            was.optimizer,
            donate=was.donate,
            fast=was.fast,
            gradient=was.gradient,
            reduce=was.reduce,
        )
        step = compiler.compile(step) if isinstance(was.run, CompiledRun) else step
    batches = attrs.evolve(batches, arrays=arrays)
    return attrs.evolve(run, step=step, batches=batches, saved=())


@checked
def smoothness(
    run: Run, *, change: Positive = 0.1, key: Key = Key(0), steps: NonNegativeInt | None = None
) -> float:
    """Measure how smoothly training depends on the weights of its examples: 1 is smoothly.

    Trains three times, with the weights 1, 1 + c v and 1 + 2 c v, for a random v of -1 and 1. With
    a and b the changes of the params from the first to the second, and on to the third,

        smoothness = sum |a| sign(a b) / sum |a|

    Where training is smooth over such changes, a and b have the same signs, and it is near 1. Where
    it is rough, they are as good as random, and it is near 0: the gradient of the run is still
    exact, and says little about changes of that size.

    Args:
        run: the run, as `reweighted` takes it.
        change: c, the size of the changes. To leave out one example is a change of 1.
        key: v is drawn from it.
        steps: the number of the last step; by default that of the last batch.

    Returns:
        The smoothness, from -1 to 1.

    Raises:
        LayerError: as `reweighted` does.

    Source:
        Engstrom and others, "Optimizing ML Training with Metagradient Descent", 2025, section 3.

    Example:
        >>> x, t = torch.linspace(-1, 1, 8)[:, None], torch.linspace(1, 2, 8)[:, None]
        >>> net, optimizer = lf.dense(1), lf.optim.sgd(0.1)
        >>> step = lf.make_step(net, lf.losses.mse(), optimizer)
        >>> start = lf.init_state(net, optimizer, lf.Key(0), x)
        >>> round(smoothness(Run(step, lf.data.batches((x, t), 4, epochs=5), start)), 2)
        1.0
    """
    batches = run.batches
    examples = batches.examples if isinstance(batches, Batches) else 0
    v = 2.0 * keys.bernoulli(key, (examples,), 0.5) - 1

    def trained(factor: float) -> State:
        other = reweighted(run, 1 + factor * change * v)
        last = other.end if steps is None else steps
        assert last is not None  # batches of `data.batches` have an end
        params = other.reached(other.start, last).params
        return torch.cat([leaf.flatten() for leaf in tree.leaves(params)])

    first, second, third = map(trained, (0.0, 1.0, 2.0))
    a, b = second - first, third - second
    total = a.abs().sum()
    return float((a.abs() * (a * b).sign()).sum() / total) if total else 1.0
