"""Guided backpropagation and deconvolution: other gradients of the activations.

An activation's backward is dx = g f'(x). Of a ReLU's, with f'(x) = 1 where x > 0 and else 0, the
first of these methods also drops what is negative in g, and the second drops only that:

    dx = max(0, g) f'(x)    guided backpropagation
    dx = max(0, g)          deconvolution

All other layers have their own backward. Both are applied to every activation, not only to ReLU.
"""

from __future__ import annotations

from lincoln_fn.attribution._target import Target, at_inference, explained_output
from lincoln_fn.attribution.kinds import ACTIVATION, belongs
from lincoln_fn.core import Arrays, Cache, Layer, Params
from lincoln_fn.walk.walks import back


def guided_backpropagation(net: Layer, params: Params, x: Arrays, target: Target = None) -> Arrays:
    """Send back through each activation only what is positive: dx = max(0, g) f'(x).

    Source:
        Springenberg and others, "Striving for Simplicity: The All Convolutional Net", 2015.

    Example:
        >>> x = torch.tensor([[1.0, -1.0, 1.0]])
        >>> guided_backpropagation(lf.relu(), (), x, torch.tensor([[2.0, 2.0, -2.0]]))
        tensor([[2., 0., 0.]])
    """
    return _walk("guided_backpropagation", net, params, x, target)


def deconvolution(net: Layer, params: Params, x: Arrays, target: Target = None) -> Arrays:
    """Send back through each activation what is positive, wherever its x was: dx = max(0, g).

    Source:
        Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014.

    Example:
        >>> x = torch.tensor([[1.0, -1.0, 1.0]])
        >>> deconvolution(lf.relu(), (), x, torch.tensor([[2.0, 2.0, -2.0]]))
        tensor([[2., 2., 0.]])
    """
    return _walk("deconvolution", net, params, x, target, slope=False)


def _walk(
    function: str, net: Layer, params: Params, x: Arrays, target: Target, *, slope: bool = True
) -> Arrays:
    """Send g back, through an activation what is positive of it, times f'(x) or not."""

    def visit(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays
    ) -> tuple[Arrays, None]:
        if belongs(layer, ACTIVATION):
            g = g.clamp(min=0)
            if not slope:
                return g, None
        return layer.input_grad(params, cache, g), None

    net = at_inference(function, net, x)
    y, cache = net.forward(params, x)
    return back(visit, net, params, cache, explained_output(function, y, target))[0]
