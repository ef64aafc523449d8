"""Which training examples help and which harm: a run's gradient in their weights, other weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn import compiler, core
from lincoln_fn.compiler.internal import CompiledRun
from lincoln_fn.core import Key, NonNegativeInt, Positive, PositiveInt, checked, tree, unexpected
from lincoln_fn.inspect.internal import table
from lincoln_fn.losses import example_weighted
from lincoln_fn.losses.internal import unweighted
from lincoln_fn.replay.metagradient import metagradient
from lincoln_fn.replay.run import Run, State
from lincoln_fn.training import Batch, Batches, Step, make_step

_SHOWN = 5  # rows of each kind


@attrs.frozen(eq=False)
class Attribution:
    """What each training example does to the loss of test examples. `print` shows it as a table.

    Args:
        value: the test loss after training.
        effects: by how much it changes, to first order, if the example is left out: above 0 for an
            example that helps, below 0 for one that harms.
        labels: the examples' labels, if their targets are numbers; else None.
    """

    value: float
    effects: Float[Tensor, " N"]
    labels: Tensor | None = None

    def helpful(self, count: int) -> Int[Tensor, " count"]:
        """Return the rows of the examples that help most, the most helpful first."""
        return self.effects.argsort(descending=True, stable=True)[:count]

    def harmful(self, count: int) -> Int[Tensor, " count"]:
        """Return the rows of the examples that harm most, the most harmful first."""
        return self.effects.argsort(stable=True)[:count]

    def __str__(self) -> str:
        headings = ["", "row", "left out, the loss changes by"]
        if self.labels is not None:
            headings.insert(2, "label")
        count = min(_SHOWN, len(self.effects) // 2)
        rows: list[list[str]] = []
        for kind, chosen in (("helps", self.helpful(count)), ("harms", self.harmful(count))):
            rows += [[] for _ in range(bool(rows))]
            for row in chosen.tolist():
                cells = [kind, str(row), f"{self.effects[row]:+.2g}"]
                if self.labels is not None:
                    cells.insert(2, f"{self.labels[row].item():g}")
                rows.append(cells)
        return f"loss of the test examples: {self.value:.4g}\n\n{table(headings, rows, left=1)}"


@checked
def attribute(
    run: Run,
    test: Batch,
    *,
    steps: NonNegativeInt | None = None,
    ema: bool = False,
    memory: str | PositiveInt = "200 MB",
    folder: str | Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Attribution:
    """Find which training examples help test examples, and which harm them.

    It is the gradient of the test loss after the whole run, in the weight of each example. The run
    need not have reached a minimum, as `lf.curvature.influence` needs it. Ranks hold further than
    sizes: to know what leaving out some examples does, train again, with `reweighted`.

    Its arguments are those of `metagradient`, of a run with batches of `data.batches`, and of x and
    target of the test examples.

    Source:
        Ilyas and Engstrom, "MAGIC: Near-Optimal Data Attribution for Deep Learning", 2025.

    Example:
        >>> x, t = torch.ones(4, 1), torch.tensor([[1.0], [1.0], [1.0], [-1.0]])
        >>> net, optimizer = lf.dense(1, bias=False), lf.optim.sgd(0.1)
        >>> step = lf.make_step(net, lf.losses.mse(), optimizer)
        >>> start = lf.init_state(net, optimizer, lf.Key(0), x)
        >>> run = lf.replay.Run(step, lf.data.batches((x, t), 4, epochs=30), start)
        >>> found = attribute(run, (x[:1], t[:1]))
        >>> found.harmful(1)  # the wrong label
        tensor([3])
    """
    batches = run.batches
    if not isinstance(batches, Batches):
        expected = "batches of data.batches, whose rows are known"
        raise unexpected("attribute", expected, type(batches).__name__)
    gradient = metagradient(
        run, test, steps=steps, ema=ema, memory=memory, folder=folder, progress=progress
    )
    assert isinstance(gradient.examples, Tensor)
    target = batches.arrays[1]
    if isinstance(run.step, Step) and unweighted(run.step.loss) is not None:
        target = target[0]
    is_number = isinstance(target, Tensor) and target.numel() == len(target)
    labels = target.flatten() if is_number else None
    return Attribution(gradient.value, -gradient.examples, labels)


@checked
def reweighted(run: Run, weights: Float[Tensor, " N"]) -> Run:
    """Give the examples of a run other weights in the loss: 0 leaves one out.

    Everything else stays: the order of the batches, the first state, the dropout. A mean still
    divides by the number of all examples.

    Args:
        run: with a step of `make_step` and batches of `data.batches`. Saved states are left out.
        weights: one for each row of the data.

    Example:
        >>> x, t = torch.ones(4, 3), torch.zeros(4, 1)
        >>> net, optimizer = lf.dense(1), lf.optim.sgd(0.1)
        >>> step = lf.make_step(net, lf.losses.mse(), optimizer)
        >>> start = lf.init_state(net, optimizer, lf.Key(0), x)
        >>> run = Run(step, lf.data.batches((x, t), 2), start)
        >>> reweighted(run, torch.tensor([0.0, 1.0, 1.0, 1.0])).step.loss
        example_weighted(mse())
    """
    step, batches = run.step, run.batches
    if not isinstance(step, Step) or not isinstance(batches, Batches):
        got = f"{core.describe(run.step)} and {type(batches).__name__}"
        raise unexpected("reweighted", "a step of make_step and batches of data.batches", got)
    if weights.shape != (batches.examples,):
        expected = f"weights of shape ({batches.examples},), one for each row of the data"
        raise unexpected("reweighted", expected, weights.shape)
    x, target = batches.arrays
    weights = weights.to(tree.leaves(run.start.params)[0])
    if unweighted(step.loss) is not None:
        arrays = x, (target[0], target[1] * weights)
    else:
        arrays = x, (target, weights)
        options = {name: getattr(step, name) for name in ("donate", "fast", "gradient", "reduce")}
        is_compiled = isinstance(step.run, CompiledRun)
        step = make_step(step.net, example_weighted(step.loss), step.optimizer, **options)
        step = compiler.compile(step) if is_compiled else step
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
        steps: the number of the last step; by default that of the last batch.

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
    v = 2.0 * core.keys.bernoulli(key, (examples,), 0.5) - 1

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
