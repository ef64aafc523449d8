"""Which training examples help and which harm: the gradient of a run in their weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import LayerError, NonNegativeInt, PositiveInt, checked
from lincoln_fn.inspect.internal import table
from lincoln_fn.losses.internal import unweighted
from lincoln_fn.replay.metagradient import metagradient
from lincoln_fn.replay.run import Run
from lincoln_fn.training import Batch, Batches, Step

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

    Args:
        run: the run, with batches of `data.batches`.
        test: x and target of the test examples; the loss is their mean.
        steps: as `metagradient` takes it.
        ema: likewise.
        memory: likewise.
        folder: likewise.
        progress: likewise.

    Returns:
        The effect of each example.

    Raises:
        LayerError: as `metagradient` does; for other batches.

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
        problem = "expected batches of data.batches, whose rows are known"
        raise LayerError("attribute", f"{problem}, got {type(batches).__name__}")
    found = metagradient(
        run, test, steps=steps, ema=ema, memory=memory, folder=folder, progress=progress
    )
    assert isinstance(found.examples, Tensor)
    target = batches.arrays[1]
    if isinstance(run.step, Step) and unweighted(run.step.loss) is not None:
        target = target[0]
    is_number = isinstance(target, Tensor) and target.numel() == len(target)
    labels = target.flatten() if is_number else None
    return Attribution(found.value, -found.examples, labels)
