"""A graph network learns to read 1,797 digits from the labels of 40 of them.

Each image is a node, with edges to its 8 nearest ones. The network averages over them, so that
what it learns from a labelled digit reaches its neighbours. The program prints the accuracy on the
digits without a label, beside that of the same network without edges, and draws both while they
learn. It takes about half a minute.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from recipe import load_digits, parse_options, save_curves
from torch import Tensor

import lincoln_fn as lf

UNLABELLED = -100  # the index that the loss ignores


def make_network(mix: lf.Layer) -> lf.Layer:
    """Make a network of (nodes, edges), which `mix` averages over."""
    first = lf.serial(lf.select(0), lf.dropout(0.2), lf.dense(64))
    last = lf.serial(lf.select(0), lf.relu(), lf.dropout(0.5), lf.dense(10))
    return lf.with_context(first, mix, last, mix)


def nearest(images: Tensor, count: int = 8) -> Tensor:
    """Make edges from the nearest images to each image, and back."""
    near = torch.cdist(images, images).topk(count + 1, largest=False).indices[:, 1:]
    edges = torch.stack((near.flatten(), torch.arange(len(images)).repeat_interleave(count)))
    return torch.cat((edges, edges.flip(0)), 1).unique(dim=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both networks; print and draw their accuracies."""
    options = parse_options(__doc__, arguments, steps=200)
    images, digits = load_digits()
    graph = images, nearest(images)
    shown = torch.cat([(digits == digit).nonzero()[:4, 0] for digit in range(10)])
    labels = torch.full_like(digits, UNLABELLED).index_copy(0, shown, digits[shown])
    optimizer, loss = lf.optim.adamw(1e-2), lf.losses.softmax_cross_entropy()
    curves = {}
    for name, mix in (("with edges", lf.graph_conv()), ("without edges", lf.select(0))):
        net = make_network(mix)
        state = lf.init_state(net, optimizer, lf.Key(options.key), graph)
        step, curves[name] = lf.make_step(net, loss, optimizer), []
        for state, _ in lf.train(step, state, [(graph, labels)] * options.steps):
            right = net.predict(state.params, graph).argmax(1) == digits
            curves[name].append(right[labels == UNLABELLED].float().mean().item())
        print(f"accuracy {name:14}{curves[name][-1]:.3f}")
    if options.plot:
        save_curves(curves, options.plot, x="step", y="accuracy on digits without a label")


if __name__ == "__main__":
    main()
