"""A vision transformer reads scikit-learn's handwritten digits.

Each image is cut into 16 patches of 2 by 2 pixels. A class token in front of them gathers what the
blocks find. The program prints the accuracy on 297 held-out digits, and draws those that the
network reads wrongly. It takes about half a minute.
"""

from __future__ import annotations

from collections.abc import Sequence

from recipe import load_digits, parse_options, save_images, train

import lincoln_fn as lf

WIDTH, BATCH_SIZE = 64, 50


def branch(*layers: lf.Layer) -> lf.Layer:
    """Make a residual branch that an example skips with a chance of a tenth."""
    return lf.residual(lf.serial(lf.layer_norm(), *layers, lf.stochastic_depth(0.1)))


def make_network() -> lf.Layer:
    """Make the network, from images (N, 1, 8, 8) to the scores of ten digits."""
    block = lf.serial(
        branch(lf.multi_head_attention(4)),
        branch(lf.dense(2 * WIDTH), lf.gelu(), lf.dense(WIDTH)),
    )
    patches = lf.serial(lf.conv2d(WIDTH, 2, stride=2), lf.flatten(2), lf.permute(0, 2, 1))
    return lf.serial(
        patches,
        lf.class_token(),
        lf.positional_embedding(17),
        lf.repeat(3, block),
        lf.layer_norm(),
        lf.take(0, 1),
        lf.dense(10),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the network, and print and draw how it reads digits that it has not seen."""
    options = parse_options(__doc__, arguments, steps=900)
    images, digits = load_digits()
    images = images.view(-1, 1, 8, 8)
    seen, (x, expected) = (images[:1500], digits[:1500]), (images[1500:], digits[1500:])
    net, loss = make_network(), lf.losses.softmax_cross_entropy()
    batches = lf.data.batches(seen, BATCH_SIZE, key=lf.Key(options.key), epochs=options.steps)
    params, losses = train(net, loss, 3e-3, batches, steps=options.steps, key=options.key)
    read = net.predict(params, x).argmax(1)
    print(f"loss {losses[-1]:.3f}  held-out accuracy {(read == expected).float().mean():.3f}")
    if options.plot:
        wrong = x[read != expected][:10]
        save_images(wrong, options.plot, columns=len(wrong) or 1, title="Digits read wrongly")


if __name__ == "__main__":
    main()
