"""The loss of a network and its gradient, as one function of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from lincoln_fn.core import Layer, Params, checked
from lincoln_fn.losses import Loss
from lincoln_fn.losses.internal import check_one_number
from lincoln_fn.training.bare_step import forward_and_g
from lincoln_fn.training.batch_checks import check_batch
from lincoln_fn.training.data import Batch
from lincoln_fn.training.gears import faster, faster_loss
from lincoln_fn.walk import forward_to_train


@checked
def value_and_gradient(
    net: Layer, loss: Loss, *, fast: bool = True
) -> Callable[[Params, Batch], tuple[Tensor, Params]]:
    """Make the function (params, (x, target)) -> (loss, dL/dparams), for optimizers of your own.

    It is what a step of `make_step` computes before the optimizer's update.

    Args:
        loss: the loss, with reduction mean or sum.
        fast: whether to run `lf.fast(net)`, which computes the same in less time.

    Returns:
        The function. The gradient mirrors params.

    Raises:
        LayerError: from the function, if the batch is no pair or the loss more than one number, and
            as the network and the loss do.

    Example:
        >>> import torch, lincoln_fn as lf
        >>> params = lf.layers.dense.Params(torch.ones(1, 1), None)
        >>> compute = value_and_gradient(lf.dense(1, bias=False), lf.losses.mse())
        >>> value, dparams = compute(params, (torch.tensor([[3.0]]), torch.tensor([[1.0]])))
        >>> value, dparams.weight
        (tensor(4.), tensor([[12.]]))
    """
    pair = (faster(net), faster_loss(loss)) if fast else (net, loss)
    return partial(_compute, *pair)


def _compute(net: Layer, loss: Loss, params: Params, batch: Batch) -> tuple[Tensor, Params]:
    """Compute the loss, and go back."""
    check_batch("value_and_gradient", batch)
    forward = partial(forward_to_train, net)
    value, g, cache = forward_and_g(forward, net.name, loss, params, batch)
    check_one_number(loss.name, value)
    return value, net.grads(params, cache, g)
