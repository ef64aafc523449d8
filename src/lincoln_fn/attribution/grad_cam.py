"""Grad-CAM: where the maps that matter for an output are active; and guided backpropagation.

With A_c the feature maps at some layer and F the explained output, each map has as its weight the
mean gradient, and the picture is what is positive of the weighted sum:

    alpha_c = mean_p (dF)/(dA_c[p])    over the positions p
    cam[p] = max(0, sum_c alpha_c A_c[p])

Guided backpropagation and deconvolution are gradients with another backward of the activations.
An activation's backward is dx = g f'(x). Of a ReLU's, with f'(x) = 1 where x > 0 and else 0, the
first of these methods also drops what is negative in g, and the second drops only that:

    dx = max(0, g) f'(x)    guided backpropagation
    dx = max(0, g)          deconvolution

All other layers have their own backward. Both are applied to every activation, not only to ReLU.
"""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.attribution.gradient import Target, at_inference, explained_output
from lincoln_fn.attribution.kinds import ACTIVATION, belongs
from lincoln_fn.core import Arrays, Cache, Layer, Params, format_briefly, unexpected
from lincoln_fn.inspect import patched
from lincoln_fn.walk.internal import paths, unknown_path
from lincoln_fn.walk.walks import back


def grad_cam(
    net: Layer, params: Params, x: Arrays, target: Target = None, *, path: str
) -> Float[Tensor, " batch *positions"]:
    """Compute where the feature maps at a path speak for the explained output.

    Args:
        path: the layer or composition whose output are the feature maps A, of shape (batch,
            channels, *positions), such as the last convolution's ReLU.

    Returns:
        cam, at the feature maps' resolution. `lf.upsample` or `lf.plots.relevance` enlarge it.

    Source:
        Selvaraju and others, "Grad-CAM", ICCV 2017.

    Example:
        >>> net, x = lf.serial(lf.conv2d(4, 3), lf.relu(), lf.flatten()), torch.ones(1, 1, 5, 5)
        >>> grad_cam(net, net.init(lf.Key(0), x), x, 0, path="1").shape
        torch.Size([1, 3, 3])
    """
    net = at_inference("grad_cam", net, x)
    named = dict(paths(net))
    if path not in named:
        raise unknown_path("grad_cam", path, named)
    maps: list[Arrays] = []
    gradients: list[Arrays] = []
    # A `checkpointed` layer is run again in backward: the first output is the forward pass's.
    noted = patched(
        net, {path: partial(_noted, maps)}, gradients={path: partial(_noted, gradients)}
    )
    y, cache = noted.forward(params, x)
    if len(maps) > 1:
        wanted = "a layer that is used once"
        mend = "take one before or behind it"
        raise unexpected("grad_cam", wanted, f"{path!r}, which is used {len(maps)} times", mend)
    noted.input_grad(params, cache, explained_output("grad_cam", y, target))
    a, da = maps[0], gradients[0]
    if not isinstance(a, Tensor) or a.ndim < 3:
        expected = f"feature maps of shape (batch, channels, *positions) at {path!r}"
        raise unexpected("grad_cam", expected, format_briefly(a))
    alpha = da.mean(tuple(range(2, a.ndim)), keepdim=True)
    cam: Tensor = (alpha * a).sum(1).clamp(min=0)
    return cam


def _noted(seen: list[Arrays], value: Arrays) -> Arrays:
    seen.append(value)
    return value


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
