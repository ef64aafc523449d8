"""A diffusion model (DDPM) draws handwritten digits out of noise.

The network estimates the noise in an image. New images begin as noise, of which some is taken out
at each of 200 steps. The program prints the mean square of its error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from recipe import load_digits, parse_options, save_images, train
from torch import Tensor

import lincoln_fn as lf

STEPS, WIDTH = 200, 256
BETA = torch.linspace(5e-4, 0.1, STEPS)  # how much of the variance each step replaces by noise
KEPT = (1 - BETA).cumprod(0)  # of the image's variance, after each step


def make_network() -> lf.Layer:
    """Make the network, from (image, step) to the noise in the image."""
    time = lf.serial(lf.timestep_embedding(64), lf.dense(64), lf.silu())
    merged = lf.serial(lf.parallel(lf.identity(), time), lf.concatenate(), lf.dense(WIDTH))
    block = lf.serial(lf.layer_norm(), lf.dense(WIDTH), lf.silu(), lf.dense(WIDTH))
    return lf.serial(merged, lf.repeat(4, lf.residual(block)), lf.layer_norm(), lf.dense(64))


def noised(batches: Iterable[Any], key: lf.Key) -> Iterator[Any]:
    """Add noise of a random step to each image; the noise is the target."""
    for i, (x,) in enumerate(batches):
        t = (lf.keys.uniform(key.fold_in(2 * i), (len(x),)) * STEPS).long()
        noise, kept = lf.keys.normal(key.fold_in(2 * i + 1), x.shape), KEPT[t].unsqueeze(1)
        yield (kept.sqrt() * x + (1 - kept).sqrt() * noise, t), noise


def draw(net: lf.Layer, params: Any, key: lf.Key, count: int) -> Tensor:
    """Make new images from noise, from the last step to the first."""
    x = lf.keys.normal(key, (count, 64))
    for t in reversed(range(STEPS)):
        noise = net.predict(params, (x, torch.full((count,), t)))
        x = (x - BETA[t] / (1 - KEPT[t]).sqrt() * noise) / (1 - BETA[t]).sqrt()
        x = x + (t > 0) * BETA[t].sqrt() * lf.keys.normal(key.fold_in(t), x.shape)
    return x


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the network, and draw images."""
    options = parse_options(__doc__, arguments, steps=6000)
    net, x, key = make_network(), 2 * load_digits()[0] - 1, lf.Key(options.key)
    pairs = noised(lf.data.batches((x,), 100, key=key, epochs=options.steps), key.fold_in(1))
    params, losses = train(net, lf.losses.mse(), 2e-3, pairs, steps=options.steps, key=options.key)
    print(f"mean loss of the last steps {sum(losses[-200:]) / len(losses[-200:]):.3f}")
    if options.plot:
        images = draw(net, params, key.fold_in(2), 48)
        save_images((images + 1) / 2, options.plot, columns=12, title="Drawn out of noise")


if __name__ == "__main__":
    main()
