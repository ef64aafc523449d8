"""A trial: all that a seed draws, and the smaller trials that a failing one is reduced to."""

import random
from collections.abc import Callable
from typing import Any

import attrs
import torch

import lincoln_fn as lf
from helpers.fuzzing.draws import chance, size
from helpers.fuzzing.networks import begun, grown
from helpers.fuzzing.objectives import drawn_loss
from helpers.fuzzing.optimizers import OPTIMIZERS, WEIGHTS
from helpers.sweep import SWEEPS
from lincoln_fn import keys

# By name, a step of each layer, loss and optimizer of the tests' tables, in each configuration.
ROWS = {name: step for sweep in SWEEPS.values() for name, *step in sweep()}
MODES = ("step",) * 7 + ("prediction", "function")
DTYPES = (torch.float32,) * 9 + (torch.float64,)


@attrs.frozen
class Inputs:
    """What kind of batches there are: `sizes` without the batch's, and how x lies in memory."""

    kind: str
    sizes: tuple[int, ...]
    codes: int
    layout: str

    def draw(self, key: lf.Key, n: int) -> Any:
        """Draw the x of a batch of n."""
        shape = (n, *self.sizes)
        if self.kind in ("codes", "masked codes"):
            # The largest is always there.
            x = keys.uniform(key, shape, 0, self.codes).long().clamp(max=self.codes - 1)
        else:
            x = laid(keys.normal(key, shape), self.layout)
        if not self.kind.startswith("masked"):
            return x
        length = self.sizes[0]
        lengths = 1 + keys.uniform(key.fold_in(1), (n, 1), 0, length).long().clamp(max=length - 1)
        return x, torch.arange(length) < lengths


def laid(x: torch.Tensor, layout: str) -> torch.Tensor:
    """Give the same numbers in another order of memory."""
    if layout == "last axes swapped":
        return x.mT.contiguous().mT
    if layout == "channels last" and x.ndim > 2:
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "every second":
        return x.repeat_interleave(2, -1)[..., ::2]
    if layout == "at an offset":
        return torch.cat([torch.zeros(1), x.flatten()])[1:].view(x.shape)
    return x


LAYOUTS = ("plain",) * 6 + ("last axes swapped", "channels last", "every second", "at an offset")


@attrs.frozen
class Trial:
    """A network, its loss and optimizer, the batches, and what is done with them.

    `change` is what the user does to the state after the first step.
    """

    seed: int
    body: tuple[lf.Layer, ...]
    head: tuple[lf.Layer, ...]
    loss: lf.Loss
    target: Callable[[lf.Key, Any], Any]
    optimizer: lf.Optimizer
    inputs: Callable[[lf.Key, int], Any]
    counts: tuple[int, int, int]
    mode: str = "step"
    donate: bool = False
    fast: bool = True
    change: str = "none"
    dtype: torch.dtype = torch.float32
    threads: int = 1
    noise: float = 0.1

    @property
    def net(self) -> lf.Layer:
        layers = (*self.body, *self.head)
        return layers[0] if len(layers) == 1 else lf.serial(*layers)

    def state(self) -> lf.TrainState:
        """Make the first state, in float32, without parameters that are all zero or one."""
        key = lf.Key(self.seed)
        state = lf.init_state(self.net, self.optimizer, key, self.inputs(key, self.counts[0]))
        count = iter(range(10**6))

        def moved(leaf: torch.Tensor) -> torch.Tensor:
            noise = keys.normal(key.fold_in(next(count)), tuple(leaf.shape), std=self.noise)
            return leaf.clone().add_(noise)

        return lf.evolve(state, params=lf.tree.map(moved, state.params)) if self.noise else state

    def batches(self, state: lf.TrainState) -> list[tuple[Any, Any]]:
        """Draw the batches; those of one size are the same batch."""
        made = {}
        for i, n in enumerate(self.counts):
            if n not in made:
                key = lf.Key(self.seed).fold_in(100 + i)
                x = self.inputs(key, n)
                made[n] = x, self.target(key.fold_in(7), self.net.forward(state.params, x)[0])
        return [made[n] for n in self.counts]

    def __str__(self) -> str:
        def shown(leaf: torch.Tensor) -> str:
            return f"{str(leaf.dtype)[6:]}{list(leaf.shape)}, strides {list(leaf.stride())}"

        x = "; ".join(map(shown, lf.tree.leaves(self.inputs(lf.Key(self.seed), self.counts[0]))))
        return (
            f"seed {self.seed}: {self.mode}\n    {self.net}\n    {self.loss}, {self.optimizer}\n"
            f"    x {x}; batches of {self.counts}; donate={self.donate}, fast={self.fast}, "
            f"change={self.change}, {self.dtype}, threads={self.threads}"
        )


def drawn_inputs(rng: random.Random) -> Inputs:
    kind = rng.choice(
        ("rows",) * 2 + ("sequence",) * 2 + ("image",) * 4 + ("volume",) * 2
        + ("codes", "codes", "masked", "masked codes")
    )  # fmt: skip
    length = rng.choice((1, 2, 3, 5, 8, 13))
    sides = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12)
    channels = rng.choice((1, 1, 2, 3, 4, 6, 8))
    sizes = {
        "rows": (size(rng),),
        "sequence": (length, size(rng)),
        "masked": (length, size(rng)),
        "image": (channels, rng.choice(sides), rng.choice(sides)),
        "volume": (channels, *(rng.choice(sides[:5]) for _ in range(3))),
    }.get(kind, (length,))
    return Inputs(kind, sizes, rng.choice((1, 2, 5, 17, 40)), rng.choice(LAYOUTS))


def drawn_counts(rng: random.Random) -> tuple[int, int, int]:
    """Draw the batches' sizes; one in four trials has a batch of another size."""
    n = rng.choice((1, 2, 3, 4, 5, 7, 8, 8, 16, 33))
    other = rng.choice((1, 2, 3, 6, 9)) if chance(rng, 0.25) else n
    return rng.choice(((n, n, n), (n, n, other), (n, other, n)))


def trial(seed: int) -> Trial:
    """Draw the trial of a seed."""
    rng = random.Random(seed)
    optimizer = rng.choices([*OPTIMIZERS.values()], WEIGHTS)[0]
    how = {
        "mode": rng.choice(MODES),
        "donate": chance(rng, 0.5),
        "fast": not chance(rng, 0.1),
        "change": rng.choice(("none",) * 4 + ("scaled", "cloned", "by rows")),
        "dtype": rng.choice(DTYPES),
        "threads": 2 if chance(rng, 0.1) else 1,
    }
    if chance(rng, 0.1):
        return of_row(rng.choice([*ROWS]), seed, **how)
    drawn = None
    while drawn is None:
        drawn = drawn_parts(rng, lf.Key(seed))
    body, head, loss, target, inputs, counts = drawn

    def params():
        return lf.serial(*body, *head).init(lf.Key(0), inputs.draw(lf.Key(seed), counts[0]))

    made = optimizer(rng, params)
    return Trial(seed, body, head, loss, target, made, inputs.draw, counts, **how)


def drawn_parts(rng: random.Random, key: lf.Key) -> tuple[Any, ...] | None:
    """Draw layers, a loss that fits them, and batches; None where the loss drawn does not fit."""
    inputs, counts = drawn_inputs(rng), drawn_counts(rng)
    x = inputs.draw(key, counts[0])
    is_begun = isinstance(x, tuple) or not x.is_floating_point()
    first, y = begun(rng, x, inputs.codes) if is_begun else ([], x)
    body, y = grown(rng, y, rng.randint(0 if first else 1, 5), 2)
    try:
        head, loss, target = drawn_loss(rng, y)
        for layer in head:
            y, _ = layer.forward(layer.init(lf.Key(0), y), y)
        target(lf.Key(0), y)
    except (lf.LayerError, ValueError):
        return None
    return (*first, *body), tuple(head), loss, target, inputs, counts


def of_row(name: str, seed: int, **how: Any) -> Trial:
    """Make the trial of a row of the tests' tables."""
    net, loss, optimizer, (x, target) = ROWS[name]
    return Trial(
        seed, (net,), (), loss, lambda key, z: target, optimizer, lambda key, n: x, (1, 1, 1),
        noise=0.0, **how,
    )  # fmt: skip
