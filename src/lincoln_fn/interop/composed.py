"""Modules made of modules: torch's containers and transformers, and torchvision's ResNets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from torch import nn

from lincoln_fn.combine import residual, serial
from lincoln_fn.core import Layer, Params
from lincoln_fn.interop.hyperparameters import Unsupported
from lincoln_fn.interop.transformers import transformer, transformer_decoder, transformer_encoder


def _as_they_are(params: tuple[Params, ...]) -> Params:
    return params


class Container(NamedTuple):
    """A module made of modules."""

    # Any: torch declares few of its modules' attributes.
    parts: Callable[[Any], dict[str, nn.Module]]  # module -> its parts by their paths in it
    compose: Callable[..., Layer]  # the parts' layers -> the layer
    # the parts' params -> the layer's
    arrange: Callable[[tuple[Params, ...]], Params] = _as_they_are


def _list_stack(module: Any) -> dict[str, nn.Module]:
    blocks = {f"layers.{i}": block for i, block in enumerate(module.layers)}
    return {**blocks, "norm": nn.Identity() if module.norm is None else module.norm}


_COMPOSED: Final[dict[type[nn.Module], Container]] = {
    # Not named_children, which skips a module that occurs a second time.
    nn.Sequential: Container(lambda module: module._modules, serial),
    nn.TransformerEncoder: Container(
        _list_stack, lambda *parts: transformer_encoder(*parts[:-1], norm=parts[-1])
    ),
    nn.TransformerDecoder: Container(
        _list_stack, lambda *parts: transformer_decoder(*parts[:-1], norm=parts[-1])
    ),
    nn.Transformer: Container(
        lambda module: {"encoder": module.encoder, "decoder": module.decoder}, transformer
    ),
}


def _block_of(convolutions: int) -> Container:
    """Describe a ResNet's block: y = f(norm(conv(... f(norm(conv(x))))) + downsample(x))."""

    def parts(module: Any) -> dict[str, nn.Module]:
        pairs = (f"{kind}{i}" for i in range(1, convolutions + 1) for kind in ("conv", "bn"))
        # Where there is none, the block adds x itself.
        way = module.downsample or nn.Identity()
        names = (*pairs, "relu")
        return {**{name: getattr(module, name) for name in names}, "downsample": way}

    def compose(*layers: Layer) -> Layer:
        *main, activation, way = layers
        return serial(residual(serial(*_between(main, activation)), way), activation)

    def arrange(params: tuple[Params, ...]) -> Params:
        *main, activation, way = params
        if activation != ():
            raise Unsupported("expected relu without parameters, for it is used several times")
        return (tuple(_between(main, ())), way), ()

    return Container(parts, compose, arrange)


def _between(main: list[Any], activation: Any) -> list[Any]:  # Any: layers, or their params
    """Put an activation after each convolution and its norm, except the last."""
    pairs = [[*main[i : i + 2], activation] for i in range(0, len(main), 2)]
    return [entry for pair in pairs for entry in pair][:-1]


def _resnet(module: Any) -> dict[str, nn.Module]:
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool")
    parts = {name: getattr(module, name) for name in names}
    return {**parts, "flatten": nn.Flatten(1), "fc": module.fc}


# By name, because torchvision may not be installed.
_BY_NAME: Final[dict[str, Container]] = {
    "torchvision.models.resnet.BasicBlock": _block_of(2),
    "torchvision.models.resnet.Bottleneck": _block_of(3),
    "torchvision.models.resnet.ResNet": Container(_resnet, serial),
}


def find_composed(module: nn.Module) -> Container | None:
    """Find how a module is made of modules; None for a single module, or an unknown one."""
    kind = type(module)
    if getattr(kind, "forward", None) is nn.Sequential.forward:
        kind = nn.Sequential
    return _COMPOSED.get(kind) or _BY_NAME.get(f"{kind.__module__}.{kind.__qualname__}")
