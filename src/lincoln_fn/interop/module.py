"""A torch.nn.Module whose backward is a layer's own, for use in a model that autograd trains.

It is not pure: torch's optimizers change the module's parameters in place, and in training each
call replaces its running statistics and keys by the advanced ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import optree
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lincoln_fn.core import EVERYTHING, Arrays, Layer, Params, checked, tree
from lincoln_fn.walk.internal import BACKWARD, Wants


@checked
def to_torch(layer: Layer, params: Params) -> LayerModule:
    """Make a torch module of a layer and its parameters.

    The module has copies of params. Each trained leaf is a parameter and each leaf of a state a
    buffer, named by its path ("0.weight"); `to_state_dict` gives torch's layouts.

    Example:
        >>> layer = lf.dense(2)
        >>> module = to_torch(layer, layer.init(lf.Key(0), torch.zeros(1, 3)))
        >>> module(torch.ones(4, 3)).sum().backward()
        >>> module.weight.grad.shape
        torch.Size([3, 2])
    """
    return LayerModule(layer, params)


class LayerModule(nn.Module):
    """A layer as a torch module; made by `to_torch`.

    In training it runs `forward`, its gradients are those of `backward`, and `advance` updates its
    buffers. After `eval()` it runs `predict`, which has no backward. Several inputs are several
    arguments. There is no second derivative.
    """

    def __init__(self, layer: Layer, params: Params) -> None:
        super().__init__()
        self._layer = layer
        leaves, self._form = optree.tree_flatten(params, namespace=EVERYTHING)
        trained = set(tree.paths(params))
        # Of each leaf: the module that holds it, its name there, and whether it is trained.
        self._places: list[tuple[nn.Module, str, bool]] = []
        for path, leaf in zip(tree.paths(params, states=True), leaves, strict=True):
            owner, name = self._owner(path)
            own = leaf.detach().clone()
            self._places.append((owner, name, path in trained))
            if path in trained:
                owner.register_parameter(name, nn.Parameter(own))
            else:
                owner.register_buffer(name, own)

    def as_params(self) -> Params:
        """Return copies of the current parameters, in the structure that `to_torch` was given."""
        return self._tree([leaf.detach().clone() for leaf in self._leaves()])

    def forward(self, *inputs: Arrays) -> Arrays:
        """Compute y of x, or of the entries of x; in training replace the states by the next."""
        x: Arrays = inputs[0] if len(inputs) == 1 else inputs
        given: Arrays = self._tree(self._leaves()), x
        tensors, form = optree.tree_flatten(given, namespace=EVERYTHING)
        call = _Call(self._layer, self.training, form)
        apply: Any = _ByHand.apply  # Any: only newer torches give it a type
        ys = apply(call, *tensors)
        if self.training:
            for (owner, name, is_trained), leaf in zip(self._places, call.advanced, strict=True):
                if not is_trained:
                    # Not copied in place: this call's backward still needs the old one.
                    setattr(owner, name, leaf)
        return optree.tree_unflatten(call.y_form, ys)

    def extra_repr(self) -> str:
        """Show the layer."""
        return self._layer.name

    def _owner(self, path: str) -> tuple[nn.Module, str]:
        """Find or make the module that holds a leaf, because names in torch have no dots."""
        owner: nn.Module = self
        *above, name = (path or "params").split(".")
        for step in above:
            if step not in owner._modules:
                owner.add_module(step, nn.Module())
            owner = owner.get_submodule(step)
        return owner, name

    def _leaves(self) -> list[Tensor]:
        return [getattr(owner, name) for owner, name, _ in self._places]

    def _tree(self, leaves: Sequence[Tensor]) -> Params:
        return optree.tree_unflatten(self._form, leaves)


@attrs.define(eq=False)
class _Call:
    """One call of a module: everything that is not a tensor, on its way through `_ByHand`."""

    layer: Layer
    training: bool
    form: optree.PyTreeSpec  # of (params, x)
    y_form: optree.PyTreeSpec = attrs.field(init=False)
    advanced: Sequence[Tensor] = ()


class _ByHand(torch.autograd.Function):
    # Any: torch's context takes any attribute.
    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        params, x = optree.tree_unflatten(call.form, tensors)
        ctx.call, ctx.count = call, len(tensors)
        if call.training:
            y, cache = call.layer.forward(params, x)
            call.advanced = tree.leaves(call.layer.advance(params, cache), states=True)
            held, ctx.cache_form = optree.tree_flatten(cache, namespace=EVERYTHING)
            ctx.held = [None if isinstance(leaf, Tensor) else leaf for leaf in held]
            kept = [leaf for leaf in held if isinstance(leaf, Tensor)]
            ctx.save_for_backward(*tensors, *kept)
        else:
            y = call.layer.predict(params, x)
        ys, call.y_form = optree.tree_flatten(y, namespace=EVERYTHING)
        ctx.floating = [leaf.is_floating_point() for leaf in ys]
        return tuple(ys)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gs: Tensor) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        layer = call.layer
        if not call.training:
            raise RuntimeError(
                f"{layer.name}: after eval() it runs predict, which has no backward; call train()"
            )
        tensors, kept = ctx.saved_tensors[: ctx.count], iter(ctx.saved_tensors[ctx.count :])
        params, x = optree.tree_unflatten(call.form, tensors)
        held = [next(kept) if leaf is None else leaf for leaf in ctx.held]
        cache = optree.tree_unflatten(ctx.cache_form, held)
        pairs = zip(gs, ctx.floating, strict=True)
        of_floating = [g if is_floating else None for g, is_floating in pairs]
        g = optree.tree_unflatten(call.y_form, of_floating)
        forms = [optree.tree_structure(given, namespace=EVERYTHING) for given in (params, x)]
        wanted, count = ctx.needs_input_grad[1:], forms[0].num_leaves
        wants = Wants(dx=any(wanted[count:]), dparams=any(wanted[:count]))
        dx, dparams = BACKWARD.visit(layer, "", params, cache, g, wants)
        gradients = [
            entry if isinstance(entry, Tensor) and entry.is_floating_point() else None
            for form, given in zip(forms, (dparams, dx), strict=True)
            for entry in ([None] * form.num_leaves if given is None else form.flatten_up_to(given))
        ]
        return None, *gradients
