"""A row of the table of layers: a configuration, an input, and torch's answer to it."""

import functools
from collections.abc import Callable
from itertools import count
from typing import Any

import attrs
import torch
from torch import Tensor

import lincoln_fn as lf
from lincoln_fn.interop.state_dict import _slots


@attrs.frozen(eq=False)
class Case:
    """A layer in one configuration.

    Args:
        layer: the layer.
        x: an input in float32, or a tuple of inputs. Its sizes differ from each other.
        torch: (params, x) -> y by torch's module of the same weights, differentiable in both; None
            where torch has no such layer.
        predict_is_forward: as `check_layer` has it.
        note: tells cases of the same layer apart, where the name does not.
    """

    layer: lf.Layer
    x: Any
    torch: Callable[[Any, Any], Any] | None = None
    predict_is_forward: bool | None = None
    note: str = ""

    def __str__(self) -> str:
        shape = "+".join("x".join(map(str, leaf.shape)) for leaf in lf.tree.leaves(self.x))
        return f"{self.layer.name}-{shape}{self.note and '-' + self.note}"

    @property
    def constructor(self) -> str:
        """Name the constructor."""
        return self.layer.spec.of.__name__

    @functools.cache  # noqa: B019  The table lives as long as the process.
    def params(self) -> Any:
        """Draw the layer's parameters, in float32: once, since nothing changes them."""
        return self.layer.init(lf.Key(11), self.x)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Draw an input from the standard normal distribution."""
    return lf.keys.normal(lf.Key(1000 + seed), shape)


def random_like(tree: Any, seed: int = 3) -> Any:
    """Draw numbers for each tensor of a tree, from a seed of its own, in its dtype."""
    seeds = count(seed)
    return lf.tree.map(lambda leaf: normal(*leaf.shape, seed=next(seeds)).to(leaf.dtype), tree)


def run(layer: lf.Layer, params: Any, x: Any, g: Any) -> tuple[Any, Any, Any]:
    """Run a layer there and back: y, dx and dparams; g may be a function of y."""
    y, cache = layer.forward(params, x)
    return y, *layer.backward(params, cache, g(y) if callable(g) else g)


def first_run(layer: lf.Layer, x: Any, seed: int = 0) -> tuple[Any, Any, Any]:
    """Start a layer and run it: its params, y and the cache."""
    params = layer.init(lf.Key(seed), x)
    return params, *layer.forward(params, x)


def cast(tree: Any, dtype: torch.dtype = torch.float64) -> Any:
    """Convert the floating tensors of a tree."""
    return lf.tree.map(
        lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, tree, states=True
    )


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Tensor:
    """Draw an input uniformly."""
    return lf.keys.uniform(lf.Key(2000 + seed), shape, low, high)


def by_module(module: Any, names: dict[str, Callable[[Any], Tensor]] | None = None) -> Any:
    """Run a torch.nn module with our parameters in place of its own.

    Args:
        module: the module.
        names: by the module's parameter name, how our params give that tensor; None for the names
            of the state dict.

    Returns:
        The function (params, x) -> y, which has the module.
    """

    def run(params: Any, x: Any) -> Any:
        given = torch_names(params) if names is None else {n: of(params) for n, of in names.items()}
        return torch.func.functional_call(module, given, x)

    run.module = module
    return run


def both(name: str, x: Tensor, *arguments: Any, note: str = "", **options: Any) -> Case:
    """Pair our constructor with torch's class of the same name and hyperparameters."""
    theirs = name.title().replace("_", "").replace("Lp", "LP").replace("D", "d")
    module = getattr(torch.nn, theirs)(*arguments, **options)
    return Case(getattr(lf, name)(*arguments, **options), x, by_module(module), note=note)


SINGLE = lf.identity()


def torch_names(params: Any, layer: lf.Layer = SINGLE) -> dict[str, Tensor]:
    """Name params as `to_state_dict` does, but keep their derivative."""
    paths, leaves = lf.tree.paths(params, states=True), lf.tree.leaves(params, states=True)
    ours = dict(zip(paths, leaves, strict=True))

    def joined(slot: Any) -> Tensor:
        parts = [ours[path].mT if slot.transposed else ours[path] for path in slot.fields]
        return torch.cat(parts, slot.dim)

    return {slot.name: joined(slot) for slot in _slots(layer, params)}
