"""Draw the pictures of the gallery: what small networks have learned, trained while it is built."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

import lincoln_fn as lf

EXAMPLES: Final = str(Path(__file__).parents[2] / "examples")
WIDTH, HEIGHT, MARGIN = 480, 270, 48
EPOCHS: Final = 200


def breast_cancer() -> str:
    """Train the network of examples/breast_cancer.py, and draw its accuracies."""
    if EXAMPLES not in sys.path:
        sys.path.append(EXAMPLES)
    import breast_cancer as example

    order_key, all_key, split_key = (lf.Key(0).fold_in(i) for i in range(3))
    data, net = example.load_data(), example.make_network("torch")
    rows = lf.keys.permutation(order_key, len(data[0]))
    held_out, rest = rows[: len(rows) // 5], rows[len(rows) // 5 :]
    on_all = list(example.train_network(net, data, rows, rows, all_key, EPOCHS))
    on_split = list(example.train_network(net, data, rest, held_out, split_key, EPOCHS))
    return _curves(
        [record.epoch for record in on_all],
        {
            "trained on all, measured on the same": [record.metric for record in on_all],
            "trained on four fifths, measured on the rest": [record.metric for record in on_split],
        },
    )


def digits() -> str:
    """Train a network on scikit-learn's digits, and draw what its first layer looks for."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, target = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    net = lf.serial(lf.dense(24), lf.relu(), lf.dense(10))
    optimizer = lf.optim.adamw(1e-2, weight_decay=1.0)
    loss = lf.losses.softmax_cross_entropy()
    state, _ = lf.fit(
        net, loss, optimizer, (x, target), key=lf.Key(0), epochs=10, batch_size=32, progress=False
    )
    return _filters(state.params[0].weight.T.reshape(24, 8, 8))


def spirals() -> str:
    """Train a network to tell two spirals apart, and draw which class it gives each place."""
    turns = torch.linspace(0.5, 3.0, 150)
    arm = torch.stack([turns * (3 * turns).cos(), turns * (3 * turns).sin()], 1)
    x, target = torch.cat([arm, -arm]), torch.arange(2).repeat_interleave(150)
    net = lf.serial(lf.dense(32), lf.tanh(), lf.dense(32), lf.tanh(), lf.dense(2))
    loss, optimizer = lf.losses.softmax_cross_entropy(), lf.optim.adam(1e-2)
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    step = lf.make_step(net, loss, optimizer)
    for state, _ in lf.train(step, state, [(x, target)] * 400):
        pass
    across, down = torch.linspace(-3.4, 3.4, 40), torch.linspace(-3.4, 3.4, 40)
    places = torch.cartesian_prod(down, across).flip(1)
    return _regions(net.predict(state.params, places).softmax(1)[:, 1].reshape(40, 40), x, target)


def early_stopping() -> str:
    """Train a network on few digits until the validation loss rises, and draw both losses."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, target = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    net, loss = lf.serial(lf.dense(50), lf.relu(), lf.dense(10)), lf.losses.softmax_cross_entropy()
    _, history = lf.fit(
        net,
        loss,
        lf.optim.adamw(1e-2),
        (x[:150], target[:150]),
        key=lf.Key(0),
        epochs=40,
        batch_size=15,
        valid=(x[150:600], target[150:600]),
        metric=lambda prediction, labels: loss.forward(prediction, labels)[0].item(),
        progress=False,
    )
    return _lines(
        {
            "loss on the training examples": [record.loss for record in history],
            "loss on others: stop where it is lowest": [record.metric or 0.0 for record in history],
        },
        "epoch",
    )


def time_series() -> str:
    """Train the network of the recipe on a series, and draw what it predicts of the rest."""
    series = torch.sin(0.2 * torch.arange(400.0)) + 0.3 * torch.sin(0.45 * torch.arange(400.0))
    windows = series.unfold(0, 25, 1)
    x, target = windows[:, :-1, None], windows[:, -1:]
    net, optimizer = lf.serial(lf.lstm(16), lf.last_state(), lf.dense(1)), lf.optim.adam(1e-2)
    state, _ = lf.fit(
        net, lf.losses.mse(), optimizer, (x[:280], target[:280]), key=lf.Key(0), epochs=10,
        batch_size=40, progress=False,
    )  # fmt: skip
    prediction = net.predict(state.params, x[304:])
    return _lines(
        {
            "the series": target[304:, 0].tolist(),
            "predicted one step ahead": prediction[:, 0].tolist(),
        },
        "step",
    )


DRAWN: Final[Mapping[str, Callable[[], str]]] = {
    function.__name__: function
    for function in (breast_cancer, digits, spirals, early_stopping, time_series)
}


def picture(name: str) -> str:
    """Train and draw, on one thread: small networks are fastest there, and repeat themselves.

    Args:
        name: of a function in `DRAWN`.

    Returns:
        SVG, with colours from the style sheet.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return DRAWN[name]()
    finally:
        torch.set_num_threads(threads)


def _curves(epochs: Sequence[int], curves: Mapping[str, Sequence[float]]) -> str:
    """Draw accuracies against epochs."""
    low = min(map(min, curves.values()))
    low = int(low * 20) / 20

    def place(epoch: float, y: float) -> str:
        across = MARGIN + (WIDTH - 2 * MARGIN) * epoch / epochs[-1]
        up = (HEIGHT - 2 * MARGIN) * (y - low) / (1 - low)
        return f"{across:.1f} {HEIGHT - MARGIN - up:.1f}"

    label = f"accuracy from epoch {epochs[0]} to {epochs[-1]}: {', '.join(curves)}"
    right, ground = WIDTH - MARGIN, HEIGHT - MARGIN
    parts = [f'<path class="axis" d="M{MARGIN} {MARGIN}V{ground}H{right}"/>']
    for y in (low, (1 + low) / 2, 1.0):
        at = place(0, y).partition(" ")[2]
        parts.append(f'<text x="{MARGIN - 4}" y="{at}" text-anchor="end">{y:.1%}</text>')
    for epoch in (epochs[-1] // 2, epochs[-1]):
        at = place(epoch, low).partition(" ")[0]
        parts.append(f'<text x="{at}" y="{ground + 14}" text-anchor="middle">{epoch}</text>')
    parts.append(f'<text x="{MARGIN}" y="{ground + 14}">epoch</text>')
    for i, (kind, (name, ys)) in enumerate(zip(("value", "slope"), curves.items(), strict=True)):
        line = "L".join(place(*point) for point in zip(epochs, ys, strict=True))
        parts.append(f'<path class="{kind}" d="M{line}"/>')
        parts.append(f'<text class="{kind}" x="{MARGIN}" y="{12 + 14 * i}">{name}</text>')
    return _svg(label, WIDTH, HEIGHT, parts)


def _lines(curves: Mapping[str, Sequence[float]], unit: str) -> str:
    """Draw lines on one scale, against their index."""
    values = [value for line in curves.values() for value in line]
    low, high = min(values), max(values)
    right, ground = WIDTH - MARGIN, HEIGHT - MARGIN
    parts = [f'<path class="axis" d="M{MARGIN} {MARGIN}V{ground}H{right}"/>']
    for y, at in ((low, ground), (high, MARGIN)):
        parts.append(f'<text x="{MARGIN - 4}" y="{at}" text-anchor="end">{y:.2g}</text>')
    parts.append(f'<text x="{right}" y="{ground + 14}" text-anchor="end">{unit}</text>')
    for i, (kind, (name, line)) in enumerate(zip(("value", "slope"), curves.items(), strict=True)):
        across = (right - MARGIN) / (len(line) - 1)
        points = "L".join(
            f"{MARGIN + across * j:.1f} {ground - (ground - MARGIN) * (y - low) / (high - low):.1f}"
            for j, y in enumerate(line)
        )
        parts.append(f'<path class="{kind}" d="M{points}"/>')
        parts.append(f'<text class="{kind}" x="{MARGIN}" y="{12 + 14 * i}">{name}</text>')
    return _svg(", ".join(curves), WIDTH, HEIGHT, parts)


def _filters(weights: Tensor) -> str:
    """Draw weights as squares: one colour above 0, the other below, opaque at the largest."""
    size, columns, gap = 6, 8, 8
    pitch = size * weights.shape[-1] + gap
    parts = []
    for i, one in enumerate(weights):
        left, top = i % columns * pitch, i // columns * pitch
        for y, row in enumerate((one / one.abs().max()).tolist()):
            for x, w in enumerate(row):
                sign = "above" if w > 0 else "below"
                parts.append(
                    f'<rect class="{sign}" x="{left + size * x}" y="{top + size * y}"'
                    f' width="{size}" height="{size}" opacity="{abs(w):.2f}"/>'
                )
    rows = -(-len(weights) // columns)
    label = f"the weights of {len(weights)} hidden units, each as an image of 8 by 8 pixels"
    return _svg(label, columns * pitch - gap, rows * pitch - gap, parts)


def _regions(p: Tensor, x: Tensor, target: Tensor) -> str:
    """Draw the probability of class 1 at each place, and the examples."""
    size, reach = 6, 3.4
    parts = []
    for i, row in enumerate(p.tolist()):
        for j, share in enumerate(row):
            sign = "above" if share > 0.5 else "below"
            parts.append(
                f'<rect class="{sign}" x="{size * j}" y="{size * i}" width="{size}"'
                f' height="{size}" opacity="{abs(share - 0.5):.2f}"/>'
            )
    side = size * len(p)
    places = ((x + reach) / (2 * reach) * side).tolist()
    for (across, down), label in zip(places, target.tolist(), strict=True):
        sign = "above" if label else "below"
        parts.append(f'<circle class="{sign}" cx="{across:.1f}" cy="{down:.1f}" r="2"/>')
    return _svg("two spirals, and the class that the network gives each place", side, side, parts)


def _svg(label: str, width: float, height: float, parts: Sequence[str]) -> str:
    opening = f'<svg class="curves" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
    return "".join([opening, *parts, "</svg>"])
