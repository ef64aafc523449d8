"""Show which pixels a network reads a handwritten digit by.

A convolutional network learns MNIST. Then several methods of attribution explain its answers for
some test images: red pixels speak for the digit that it sees, blue ones against. Printed is the
first image's score, and the sum of what each method that shares it out gives to the pixels. The
data are those of mnist.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mnist import load_data
from options import picture_file, positive_int
from torch import Tensor

import lincoln_fn as lf
from lincoln_fn import attribution, plots

BATCH_SIZE = 128
LAST_MAPS = "5"  # the ReLU behind the last convolution
SHARING = ("gradient x input", "integrated gradients", "LRP")

# Any: the params of the network.
Method = Callable[[lf.Layer, Any, Tensor, Tensor], Tensor]


def make_network() -> lf.Layer:
    """Make the network, from images to the scores of ten digits."""
    return lf.serial(
        lf.conv2d(16, 5, padding=2),
        lf.relu(),
        lf.max_pool2d(2),
        lf.conv2d(32, 5, padding=2),
        lf.batch_norm(),
        lf.relu(),
        lf.max_pool2d(2),
        lf.flatten(),
        lf.dense(128),
        lf.relu(),
        lf.dropout(0.3),
        lf.dense(10),
    )


def make_methods(key: lf.Key) -> dict[str, Method]:
    """List the methods by name; each takes a network, its params, images and digits."""
    return {
        "gradient x input": attribution.gradient_times_input,
        "SmoothGrad": lambda *given: attribution.smooth_grad(*given, key=key),
        "integrated gradients": from_blank,
        "guided backpropagation": attribution.guided_backpropagation,
        "Grad-CAM": lambda *given: attribution.grad_cam(*given, path=LAST_MAPS).unsqueeze(1),
        "LRP": relevance,
    }


def from_blank(net: lf.Layer, params: Any, x: Tensor, digits: Tensor) -> Tensor:
    """Integrate the gradients on the way from a blank image."""
    blank = x.min()
    return attribution.integrated_gradients(net, params, x, digits, baseline=blank).attribution


def relevance(net: lf.Layer, params: Any, x: Tensor, digits: Tensor) -> Tensor:
    """Share the scores out by z_plus in convolutions and epsilon in dense layers."""
    params = attribution.merge_batch_norm(net, params)
    composite = attribution.epsilon_plus(epsilon=0.01)
    found: Tensor = attribution.lrp(net, params, x, digits, rules=composite).x
    return found


def train(net: lf.Layer, images: Tensor, digits: Tensor, steps: int, key: lf.Key) -> lf.TrainState:
    """Train the network."""
    optimizer = lf.optim.adamw(0.002)
    state = lf.init_state(net, optimizer, key, images[:1])
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    epochs = -(-steps // (len(images) // BATCH_SIZE))
    batches = lf.data.batches((images, digits), BATCH_SIZE, key=state.key, epochs=epochs)
    states = lf.train(step, state, islice(batches, steps))
    for state, _ in lf.streams.progress(states, total=steps):
        pass
    return state


def draw(images: Tensor, found: dict[str, Tensor], path: Path) -> None:
    """Save a picture with a row for each image and a column for each method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.7 * len(found), 1.7 * len(images) + 0.4), layout="constrained")
    rows = figure.subplots(len(images), len(found), squeeze=False)
    for i, image in enumerate(images):
        for axes, (name, values) in zip(rows[i], found.items(), strict=True):
            plots.relevance(values[i], image=image, axes=axes)
            if i == 0:
                axes.set_title(name, fontsize="small")
    figure.savefig(path, dpi=120)


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="A default run takes about a minute on two cores.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--key", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument(
        "--steps", type=positive_int, default=400, help="training steps (default: 400)"
    )
    parser.add_argument(
        "--images", type=positive_int, default=4, help="images to explain (default: 4)"
    )
    parser.add_argument("--plot", type=picture_file, metavar="FILE.png", help="save the picture")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, explain and draw."""
    options = parse_options(arguments)
    train_data, test_data = load_data()
    images, test_images = (pixels.view(-1, 1, 28, 28) for pixels, _ in (train_data, test_data))
    net = make_network()
    state = train(net, images, train_data[1], options.steps, lf.Key(options.key))
    right = lf.evaluate(
        net,
        state.params,
        lf.data.batches((test_images, test_data[1]), 500),
        {"accuracy": lf.metrics.accuracy},
    )
    print(f"test accuracy {right['accuracy']:.4f}")

    x = test_images[: options.images]
    scores = net.predict(state.params, x)
    digits = scores.argmax(1)
    methods = make_methods(lf.Key(options.key))
    found = {name: method(net, state.params, x, digits) for name, method in methods.items()}
    print(f"\n{'score of the first image':28} {scores[0, digits[0]].item():8.3f}")
    blank = net.predict(state.params, x.min().expand(1, *x.shape[1:]))[0, digits[0]]
    print(f"{'score of a blank image':28} {blank.item():8.3f}")
    for name in SHARING:
        print(f"{'sum of ' + name:28} {found[name][0].sum().item():8.3f}")
    if options.plot:
        draw(x, found, options.plot)


if __name__ == "__main__":
    main()
