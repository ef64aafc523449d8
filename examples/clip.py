"""Learn from pairs of images and captions which belong together, as CLIP does.

The images are scikit-learn's handwritten digits, half of them inverted. A caption has two words,
the digit's name and "light" or "dark". Two networks embed images and captions. Trained is that each
image is most similar to its own caption in the batch, and each caption to its own image. Printed is
how often an image that was not trained on is most similar to the right one of all 20 captions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from options import positive_int
from recipe import load_digits

import lincoln_fn as lf

LIGHT, TRAIN = 10, 1400
IMAGE = lf.serial(lf.dense(128), lf.relu(), lf.dense(32))
TEXT = lf.serial(lf.embedding(12, 32), lf.flatten(), lf.dense(64), lf.relu(), lf.dense(32))
NET = lf.serial(lf.parallel(IMAGE, TEXT), lf.cosine_similarities())
CAPTIONS = torch.cartesian_prod(torch.arange(10), torch.tensor([LIGHT, LIGHT + 1]))


def make_pairs(key: lf.Key) -> tuple[torch.Tensor, torch.Tensor]:
    """Invert half of the images, and write the captions."""
    images, labels = load_digits()
    images = 2 * images - 1
    is_dark = lf.keys.bernoulli(key, (len(images),), 0.5)
    words = torch.stack([labels, LIGHT + is_dark.long()], 1)
    return torch.where(is_dark[:, None], -images, images), words


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and choose a caption for each image."""
    note = "A default run takes about 5 seconds on two cores."
    parser = argparse.ArgumentParser(description=f"{__doc__}\n{note}")
    parser.add_argument("--epochs", type=positive_int, default=30, help="(default: 30)")
    epochs, keys = parser.parse_args(arguments).epochs, [lf.Key(0).fold_in(i) for i in range(4)]
    order = lf.keys.permutation(keys[0], 1797)
    images, words = (part[order] for part in make_pairs(keys[1]))
    batches = lf.data.batches((images[:TRAIN], words[:TRAIN]), 100, key=keys[2], epochs=epochs)
    pairs = lf.data.map(lambda *pair: (pair, None), batches)
    optimizer, loss = lf.optim.adam(1e-3), lf.losses.info_nce(symmetric=True)
    state: Any = lf.init_state(NET, optimizer, keys[3], (images, words))
    for state, record in lf.train(lf.make_step(NET, loss, optimizer), state, pairs):
        if record.step % 84 == 0:  # every 6 epochs
            similarities = NET.predict(state.params, (images[TRAIN:], CAPTIONS))
            chosen = CAPTIONS[similarities.argmax(1)]
            right = 100 * (chosen == words[TRAIN:]).all(1).float().mean()
            print(f"epoch {record.step // 14}: loss {record.loss:.3f}, right {right:.1f} %")
    print(f"scale {state.params[1].log_scale.exp():.1f}")


if __name__ == "__main__":
    main()
