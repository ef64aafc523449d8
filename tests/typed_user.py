"""A user's whole program, with types: mypy --strict and pyright's strict mode have nothing to say.

`.ci/run` asks both. test_typed_user.py runs it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

import lincoln_fn as lf
from lincoln_fn.core import Arrays, Cache, Params

# A layer of one's own: a pair of functions, with a parameter, a hyperparameter and a state.


@lf.record
class Scale:
    """One scale for each feature."""

    scale: Float[Tensor, " n"]


def scale_init(key: lf.Key, x: Tensor) -> Scale:
    return Scale(torch.ones(x.shape[-1], dtype=x.dtype, device=key.near(x).bits.device))


def scale_forward(
    params: Scale, x: Float[Tensor, "*rows n"], *, power: int
) -> tuple[Float[Tensor, "*rows n"], tuple[Tensor, int]]:
    return params.scale * x**power, (x, power)


def scale_backward(
    params: Scale, cache: tuple[Tensor, int], g: Float[Tensor, "*rows n"]
) -> tuple[Float[Tensor, "*rows n"], Scale]:
    x, power = cache
    rows = tuple(range(x.ndim - 1))
    dx = power * g * params.scale * x ** (power - 1)
    return dx, Scale((g * x**power).sum(dim=rows))


def scaled_power(power: int) -> lf.Layer:
    forward = partial(scale_forward, power=power)
    return lf.Layer(f"scaled_power({power})", forward, scale_backward, scale_init)


@lf.record
class Running(lf.State):
    """A mean that is carried and not trained."""

    mean: Tensor
    decay: float = lf.static(default=0.9)


def centre(params: Running, x: Tensor) -> tuple[Tensor, Tensor]:
    return x - params.mean, x.mean()


def centre_backward(params: Running, mean: Tensor, g: Tensor) -> tuple[Tensor, Running]:
    return g, params


def moved(params: Running, mean: Tensor) -> Running:
    return lf.evolve(params, mean=params.decay * params.mean + (1 - params.decay) * mean)


def centred() -> lf.Layer:
    def init(key: lf.Key, x: Tensor) -> Running:
        return Running(torch.zeros((), dtype=x.dtype, device=key.near(x).bits.device))

    return lf.Layer("centred()", centre, centre_backward, init, advance=moved)


# A combinator of one's own: two loops.


def coupled(f: lf.Layer, h: lf.Layer) -> lf.Layer:
    def there(visit: lf.walk.VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        y, first = visit(0, params[0], x)
        z, second = visit(1, params[1], y)
        return y + z, (first, second)

    def back(
        visit: lf.walk.VisitBack, params: Params, cache: Cache, g: Arrays
    ) -> tuple[Arrays, Cache]:
        dy, second = visit(1, params[1], cache[1], g)
        dx, first = visit(0, params[0], cache[0], g + dy)
        return dx, (first, second)

    return lf.walk.composition("coupled", (f, h), there, back)


# A loss of one's own.


def quartic(p: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return ((p - target) ** 4).mean(), p - target


def quartic_backward(difference: Tensor, g: float | Tensor = 1.0) -> Tensor:
    return 4 * g * difference**3 / difference.numel()


QUARTIC = lf.Loss("quartic()", quartic, quartic_backward)


def data(key: lf.Key) -> tuple[Tensor, Tensor]:
    x = lf.keys.normal(key, (120, 6))
    return x, (x[:, 0] * x[:, 1] > 0).long()


def network() -> lf.Layer:
    hidden = coupled(lf.dense(16), lf.serial(lf.dense(16), lf.tanh()))
    return lf.serial(centred(), hidden, lf.dropout(0.1), scaled_power(2), lf.dense(2))


def trained(folder: Path) -> tuple[lf.Layer, lf.TrainState, list[float]]:
    """Train step by step: a schedule, clipping, scores, checkpoints, resuming."""
    x, labels = data(lf.Key(0))
    net, loss = network(), lf.losses.softmax_cross_entropy()
    warm = lf.schedules.linear_warmup(lf.schedules.cosine(0.01, steps=30), steps=5)
    optimizer = lf.optim.chain(lf.optim.clip_by_global_norm(1.0), lf.optim.adamw(warm))
    step = lf.make_step(net, loss, optimizer)
    state = lf.init_state(net, optimizer, lf.Key(1), x)
    batches = lf.data.batches((x, labels), 20, key=lf.Key(2), epochs=3)
    directory = lf.checkpoint.Directory(folder / "run", keep_last=2)

    found: list[float] = []
    metrics: dict[str, lf.metrics.Metric] = {"accuracy": lf.metrics.accuracy}
    stream = lf.streams.evaluated(
        lf.train(step, state, batches), net, [(x, labels)], metrics, every=6
    )
    for state, record in lf.checkpoint.every(stream, directory, steps=6):
        found.append(record.loss)
        if record.scores:
            found.append(record.scores["accuracy"])

    path = folder / "state.safetensors"
    lf.checkpoint.save(path, state)
    again: lf.TrainState = lf.checkpoint.load(path, like=state)
    assert torch.equal(again.step, state.step)
    scores: dict[str, float] = lf.evaluate(net, again.params, [(x, labels)], metrics)
    return net, again, [*found, scores["accuracy"]]


def in_one_call() -> tuple[lf.FitRecord, ...]:
    x, _ = data(lf.Key(0))
    net = lf.serial(lf.dense(4), lf.relu(), lf.dense(1))
    target = x.sum(dim=1, keepdim=True)
    _, history = lf.fit(
        net,
        QUARTIC,
        lf.optim.sgd(1e-4),
        (x, target),
        key=lf.Key(3),
        epochs=2,
        batch_size=30,
        progress=False,
    )
    return history


@lf.record
class Average:
    """A state of one's own."""

    mean: Tensor
    step: Tensor


def average(state: Average, batch: Tensor) -> tuple[Average, dict[str, Tensor]]:
    mean = 0.9 * state.mean + 0.1 * batch
    return Average(mean, state.step + 1), {"loss": (batch - mean).abs(), "mean": mean}


def by_a_step_of_ones_own() -> tuple[Average, list[float]]:
    state = Average(torch.tensor(0.0), torch.tensor(0))
    losses: list[float] = []
    step = lf.compile(average)
    for state, record in lf.train(step, state, list(torch.ones(3))):
        losses.append(record.loss)
    return state, losses


def by_hand() -> Tensor:
    """Call a layer's module of pure functions."""
    x = lf.keys.normal(lf.Key(0), (4, 3))
    params = lf.dense(2).init(lf.Key(1), x)
    assert isinstance(params, lf.layers.dense.Params)
    y, cache = lf.layers.dense.forward(params, x)
    dx, dparams = lf.layers.dense.backward(params, cache, torch.ones_like(y))
    smaller: lf.layers.dense.Params = lf.tree.map(torch.sub, params, dparams)
    assert lf.tree.paths(smaller) == ["weight", "bias"]
    return dx


def from_and_to_torch() -> tuple[lf.Layer, nn.Module]:
    net, params = lf.interop.from_torch(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
    named: dict[str, Tensor] = lf.interop.to_state_dict(net, params)
    params = lf.interop.from_state_dict(net, named)
    return net, lf.interop.to_torch(net, params)


def no_dropout(layer: lf.Layer) -> lf.Layer:
    return lf.identity() if layer.name.startswith("dropout") else layer


def main(folder: Path) -> None:
    """Run all of it."""
    x, _ = data(lf.Key(0))
    for layer in (scaled_power(3), coupled(lf.dense(6), lf.tanh()), centred()):
        lf.testing.check_layer(layer, layer.init(lf.Key(0), x), x, predict_is_forward=True)
    lf.testing.check_loss(QUARTIC, x, x.roll(1, 0))
    net, state, found = trained(folder)
    print(lf.summary(net, x))
    print(lf.map_layers(no_dropout, net), found[-1], int(state.step))
    bits, order = lf.Key(5).fold_in(3).split()
    print(lf.keys.permutation(order, 5), bits)
    last, losses = by_a_step_of_ones_own()
    print(float(last.mean), losses)
    print(in_one_call()[-1].loss, by_hand().shape, from_and_to_torch()[0])
    try:
        net.forward(state.params, x[:, :5])
    except lf.LayerError as error:
        print(error.where, error.problem)


if __name__ == "__main__":
    main(Path("."))
