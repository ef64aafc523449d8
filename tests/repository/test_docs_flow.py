"""The picture of the home page has the library's numbers, held against autograd."""

import re

import flow
import torch


def by_autograd():
    """Compute the outputs, and the gradients of x, both hidden vectors and the prediction."""
    first, _, last = (
        None if params == () else (params.weight.clone().requires_grad_(), params.bias)
        for params in flow.PARAMS
    )
    x = flow.X.clone().requires_grad_()
    a = x @ first[0] + first[1]
    h = a.sigmoid()
    y = h @ last[0] + last[1]
    value = ((y - flow.TARGET) ** 2).mean()
    gradients = torch.autograd.grad(value, (x, a, h, y, first[0], last[0]))
    return (a, h, y), (x, h, h), value, gradients


def test_every_number_is_autograds():
    outputs, caches, value, gradients = by_autograd()
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", flow.figure())
    expected = [
        f"x = {flow.numbers(flow.X)}",
        *(f"y = {flow.numbers(y.detach())}" for y in outputs),
        *(f"cache {flow.numbers(cache.detach())}" for cache in caches),
        f"mse() = {flow.numbers(value.detach())}",
        *(f"dx = {flow.numbers(g)}" for g in gradients[:3]),
        f"g = dL/dy = {flow.numbers(gradients[3])}",
        *(f"dW = {flow.numbers(dw)}" for dw in gradients[4:]),
        *(layer.name for layer in flow.NET.parts),
    ]
    assert sorted(shown) == sorted(expected)


def test_each_step_has_a_caption_and_shows_something():
    figure = flow.figure()
    captions = re.findall(r"<li>(.*?)</li>", figure)
    steps = {
        int(step) for found in re.findall(r'data-step="([\d ]+)"', figure) for step in found.split()
    }
    assert len(captions) == 9
    assert steps == set(range(len(captions) - 1))  # the last caption sums up
