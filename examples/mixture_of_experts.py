"""Train a mixture of experts on digits, with and without the loss that balances its load.

A router sends each digit to two of eight small networks. Printed are the accuracy on other digits,
and the share of them that each expert gets. With a balancing loss of weight 0, four experts get
nearly all digits. The picture shows which experts each digit chooses.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from options import picture_file, positive_int
from recipe import load_digits

import lincoln_fn as lf

TIME = "A default run takes about 10 seconds on two cores."
N, TRAIN = 8, 1400
EXPERT = lf.serial(lf.dense(8), lf.relu(), lf.dense(10))
PLAIN = lf.mixture_of_experts(lf.dense(N, bias=False), (EXPERT,) * N)
NET = lf.tapped(PLAIN, "router")  # y = (logits of the digits, (logits of the router,))


def train(
    weight: float, x: torch.Tensor, target: torch.Tensor, epochs: int
) -> tuple[float, torch.Tensor]:
    """Train, and give the accuracy and, for each digit, the shares of the experts."""
    loss = lf.losses.weighted({
        "digit": (1.0, lf.losses.softmax_cross_entropy()),
        "balance": (weight, lf.losses.router_balance()),
    })  # fmt: skip
    optimizer = lf.optim.adam(3e-3)
    step = lf.make_step(NET, loss, optimizer)
    state = lf.init_state(NET, optimizer, lf.Key(0), x)
    for batch in lf.data.batches((x[:TRAIN], target[:TRAIN]), 50, key=lf.Key(1), epochs=epochs):
        state, _ = step(state, (batch[0], (batch[1], None)))  # the balance has no target
    logits, (of_router,) = NET.predict(state.params, x[TRAIN:])
    chosen = torch.zeros_like(of_router).scatter(1, of_router.topk(2).indices, 0.5)
    shares = torch.stack([chosen[target[TRAIN:] == digit].mean(0) for digit in range(10)])
    return lf.metrics.accuracy(logits, target[TRAIN:]), shares


def main(arguments: Sequence[str] | None = None) -> None:
    """Train twice, and print."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=f"{__doc__}\n{TIME}", formatter_class=form)
    parser.add_argument("--epochs", type=positive_int, default=30, help="(default: 30)")
    parser.add_argument("--plot", type=picture_file, help="save a picture of the shares")
    options = parser.parse_args(arguments)
    x, target = load_digits()
    runs = {weight: train(weight, x, target, options.epochs) for weight in (0.0, 0.1)}
    for weight, (accuracy, shares) in runs.items():
        listed = " ".join(f"{100 * share:3.0f}" for share in shares.mean(0))
        print(f"balance {weight}: accuracy {100 * accuracy:.1f} %, shares in % {listed}")
    if options.plot:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4))
        for i, (weight, (_, shares)) in enumerate(runs.items(), 1):
            title = f"balance {weight}"
            axes = figure.add_subplot(1, 2, i, title=title, xlabel="expert", ylabel="digit")
            axes.imshow(shares.numpy(), cmap="gray_r", vmin=0.0, vmax=0.5)
        figure.savefig(options.plot)


if __name__ == "__main__":
    main()
