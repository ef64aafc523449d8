"""A VQ-VAE writes each handwritten digit with four letters of an alphabet of 32.

An encoder makes four vectors of each image, and each becomes the nearest of 32 codes. A decoder
draws the image from the codes alone. The program prints the mean square of its errors on held-out
digits, beside that of the mean digit, and how many codes are used. It draws digits above what is
drawn of their codes. It takes about ten seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from recipe import load_digits, parse_options, save_images, train

import lincoln_fn as lf
from lincoln_fn.layers.vector_quantize import nearest

CODES, FEATURES, LETTERS = 32, 8, 4


def make_network() -> tuple[lf.Layer, lf.Layer]:
    """Make the encoder, and the network from images to (image, (vectors, codes))."""
    encoder = lf.serial(
        lf.dense(128), lf.relu(), lf.dense(LETTERS * FEATURES),
        lf.unflatten(1, (LETTERS, FEATURES)), lf.layer_norm(elementwise_affine=False),
    )  # fmt: skip
    decoder = lf.serial(lf.select(0), lf.flatten(), lf.dense(128), lf.relu(), lf.dense(64))
    quantized = lf.serial(encoder, lf.vector_quantize(CODES))
    return encoder, lf.serial(quantized, lf.branch(decoder, lf.select(1, 2), merge=lf.identity()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the network, and print and draw what it keeps of new digits."""
    options = parse_options(__doc__, arguments, steps=3000)
    images, _ = load_digits()
    seen, x = images[:1500], images[1500:]
    encoder, net = make_network()
    loss = lf.losses.weighted(
        {"pixels": (10.0, lf.losses.mse()), "codes": (1.0, lf.losses.vector_quantization())}
    )
    batches = lf.data.batches((seen,), 100, key=lf.Key(options.key), epochs=options.steps)
    pairs = ((x, (x, None)) for (x,) in batches)
    params, _ = train(net, loss, 3e-3, pairs, steps=options.steps, key=options.key)
    drawn, _ = net.predict(params, x)
    of_encoder, of_codes = params[0]
    letters = nearest(of_codes, encoder.predict(of_encoder, x))
    errors = [(guess - x).square().mean() for guess in (drawn, seen.mean(0))]
    used, first = len(letters.unique()), letters[0].tolist()
    print(f"held-out mean square error {errors[0]:.4f}; of the mean digit {errors[1]:.4f}")
    print(f"codes used {used} of {CODES}; the first digit is {first}")
    if options.plot:
        both = torch.cat((x[:12], drawn[:12]))
        save_images(
            both, options.plot, columns=12, title="Digits, and what four codes keep of them"
        )


if __name__ == "__main__":
    main()
