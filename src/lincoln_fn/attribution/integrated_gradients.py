"""Integrated gradients: the gradient's mean on the way from a baseline, times the way.

Derivation. F is the explained output, b the baseline, and x(t) = b + t (x - b) a straight line from
b to x. The chain rule gives the change of F along the line, and its integral:

    d/(dt) F(x(t)) = sum_i (dF)/(dx_i) (x_i - b_i)
    F(x) - F(b) = sum_i (x_i - b_i) int_0^1 (dF)/(dx_i)(x(t)) dt

The i-th term is x_i's attribution. The attributions sum to F(x) - F(b), which is called
completeness. The integral is computed by Gauss and Legendre's quadrature, and the gap is how much
the computed sum differs from F(x) - F(b).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.attribution._explained import Target, at_inference, by_example, explained_output
from lincoln_fn.core import Layer, LayerError, Params, PositiveInt, check_argument, format_briefly


class IntegratedGradients(NamedTuple):
    """The attributions, and how much their sum differs from F(x) - F(baseline).

    Args:
        attribution: of x's shape.
        gap: sum of the attributions - (F(x) - F(baseline)), for each example.
    """

    attribution: Float[Tensor, "*x"]
    gap: Float[Tensor, " batch"]


def integrated_gradients(
    net: Layer,
    params: Params,
    x: Float[Tensor, "*x"],
    target: Target = None,
    *,
    baseline: Float[Tensor, "*broadcastable"] | None = None,
    steps: int = 50,
) -> IntegratedGradients:
    """Attribute F(x) - F(baseline) to the elements of x.

    Args:
        net: the network, which is explained as it is after training.
        x: its input, with the batch first.
        target: which output F is, as `gradient` takes it. None is the highest score at x.
        baseline: an input without information, which broadcasts to x; None is zeros.
        steps: the number of gradients on the way. The gap says whether they are enough.

    Returns:
        The attributions, of x's shape, and the gap of each example.

    Raises:
        LayerError: if steps is below 1, or the baseline does not fit x; as `gradient` does.

    Source:
        Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.

    Example:
        >>> x = torch.tensor([[3.0, 4.0]])
        >>> attribution, gap = integrated_gradients(lf.tanh(), (), x, 1, steps=20)
        >>> (attribution - torch.tensor([[0.0, 4.0]]).tanh()).abs().max() < 1e-5
        tensor(True)
    """
    name = "integrated_gradients"
    net = at_inference(name, net, x)
    check_argument(name, "steps", PositiveInt, steps)
    if not isinstance(x, Tensor):
        raise LayerError(name, f"expected x to be one tensor, got {format_briefly(x)}")
    start = _baseline(name, x, baseline)
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    y = net.predict(params, x)
    g = explained_output(name, y, target)
    mean = torch.zeros_like(x)
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        _, cache = net.forward(params, start + (node + 1) / 2 * (x - start))
        mean = mean + weight / 2 * net.input_grad(params, cache, g)
    attribution = (x - start) * mean
    change = g * (y - net.predict(params, start))
    batched = y.ndim > 1
    gap = by_example(attribution, batched) - by_example(change, batched)
    return IntegratedGradients(attribution, gap)


def _baseline(name: str, x: Tensor, baseline: object) -> Tensor:
    if baseline is None:
        return torch.zeros_like(x)
    try:
        return torch.as_tensor(baseline).to(x).expand(x.shape)
    except (RuntimeError, TypeError, ValueError) as error:
        wanted = f"a baseline that broadcasts to {tuple(x.shape)}"
        raise LayerError(name, f"expected {wanted}, got {format_briefly(baseline)}") from error
