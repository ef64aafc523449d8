"""How a constructor makes a `Layer` of a layer file's functions."""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any

from lincoln_fn.layer import Layer, no_params


def layer_of(
    name: str,
    module: ModuleType,
    init: Any = no_params,  # Any: a partial of init, whose keywords are bound
    **hyperparameters: Any,  # Any: each forward has hyperparameters of its own
) -> Layer:
    """Make a layer of a module's functions.

    Args:
        name: the code that makes the layer.
        module: has `forward` and `backward`, and `predict`, `input_grad`, `grads`, `advance`
            where they differ from the default. Its `predict` takes the same
            hyperparameters as `forward`.
        init: (key, x) -> params.
        **hyperparameters: bound to `forward`, and to `predict` if there is one.

    Returns:
        The layer.

    Example:
        >>> from lincoln_fn.layers import softmax
        >>> layer_of("softmax(dim=0)", softmax, dim=0).predict((), torch.zeros(2, 1))
        tensor([[0.5000],
                [0.5000]])
    """
    optional = {}
    for function in ("predict", "input_grad", "grads", "advance"):
        if hasattr(module, function):
            optional[function] = getattr(module, function)
    forward = module.forward
    if hyperparameters:
        forward = partial(forward, **hyperparameters)
        if "predict" in optional:
            optional["predict"] = partial(optional["predict"], **hyperparameters)
    return Layer(name, forward, module.backward, init, **optional)
