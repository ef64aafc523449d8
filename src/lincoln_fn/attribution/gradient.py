"""The gradient of an output with respect to the input, and its product with the input.

With F the explained output, the sensitivity of F to x_i is

    s_i = (dF)/(dx_i)

and the part of F that x_i accounts for, were F linear, is x_i s_i.
"""

from __future__ import annotations

from lincoln_fn.attribution._explained import Target, at_inference, explained_output, product
from lincoln_fn.core import Arrays, Layer, Params


def gradient(net: Layer, params: Params, x: Arrays, target: Target = None) -> Arrays:
    """Compute the gradient of the explained output: s = dF/dx.

    Args:
        net: the network, which is explained as it is after training.
        x: its input, with the batch first.
        target: which output F is: a class for all examples, a class for each, weights of y's shape,
            or None for each example's highest score.

    Returns:
        s, which mirrors x; None for an entry that has no gradient, such as a mask.

    Raises:
        LayerError: if x is not floating, or the target does not fit y; as the network does.

    Source:
        Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2014.

    Example:
        >>> net, x = lf.dense(2), torch.ones(1, 3)
        >>> params = lf.layers.dense.Params(torch.tensor([[1.0, 4], [2, 5], [3, 6]]), None)
        >>> gradient(net, params, x, 0)
        tensor([[1., 2., 3.]])
    """
    net = at_inference("gradient", net, x)
    y, cache = net.forward(params, x)
    return net.input_grad(params, cache, explained_output("gradient", y, target))


def gradient_times_input(net: Layer, params: Params, x: Arrays, target: Target = None) -> Arrays:
    """Compute the product of the gradient and the input: x_i dF/dx_i.

    If F is linear, or its layers are ReLUs and layers without biases, the products sum to F.

    Args:
        net: the network, which is explained as it is after training.
        x: its input, with the batch first.
        target: which output F is, as `gradient` takes it.

    Returns:
        The products, which mirror x.

    Raises:
        LayerError: as `gradient` does.

    Source:
        Shrikumar, Greenside, Shcherbina and Kundaje, "Not Just a Black Box", 2016.

    Example:
        >>> net, x = lf.dense(2), torch.tensor([[1.0, 10, 100]])
        >>> params = lf.layers.dense.Params(torch.tensor([[1.0, 4], [2, 5], [3, 6]]), None)
        >>> gradient_times_input(net, params, x, 1)
        tensor([[  4.,  50., 600.]])
    """
    return product(gradient(net, params, x, target), x)
