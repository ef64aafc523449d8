"""A layer from any differentiable torch function or module, for those without a backward by hand.

Derivation. With y = f(params, x), autograd gives g^T df/dparams and g^T df/dx by running f again.
So the cache is x alone, and `backward` is as pure as f. An output that is not floating, such as an
index, is constant almost everywhere: it gives no gradient.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, Layer, Params, record, tensors_in, tree, unexpected


@record
class Cache:
    """The input, from which `backward` computes f again."""

    x: Arrays


# (params, x) -> y
Applied: TypeAlias = Callable[[Params, Arrays], Arrays]


def _apply(
    f: Callable[..., Arrays], has_params: bool, name: str, params: Params, x: Arrays
) -> Arrays:
    if not has_params:
        core.check_params(name, params, None)
    given = (params, x) if has_params else (x,)
    on_meta = any(t.is_meta for t in tensors_in(given))
    return _without_numbers(f, given) if on_meta else f(*given)


def _without_numbers(f: Callable[..., Arrays], given: tuple[Arrays, ...]) -> Arrays:
    """Find the shapes of y: f on `meta`, or on zeros if it has or needs numbers."""
    try:
        return f(*given)
    except Exception:  # of any kind: f may be a function of another library
        y = f(*tree.map(_zeros, given, states=True))
    return tree.map(lambda entry: entry.to("meta"), y, states=True)


def _zeros(entry: object) -> object:
    return torch.zeros_like(entry, device="cpu") if isinstance(entry, Tensor) else entry


def _forward(run: Applied, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
    return run(params, x), Cache(x)


def _backward(
    run: Applied, name: str, params: Params, cache: Cache, g: Arrays
) -> tuple[Arrays, Params]:
    """Compute g^T df/dx and g^T df/dparams, by running f again under autograd."""
    core.check_cache(name, cache, Cache)
    trained = tree.leaves(params)
    entries = [entry for entry in tree.leaves(cache.x, states=True) if core.is_floating(entry)]

    def of_leaves(*given: Tensor) -> list[Tensor]:
        own, mine = given[: len(trained)], iter(given[len(trained) :])
        x = tree.map(lambda e: next(mine) if core.is_floating(e) else e, cache.x, states=True)
        y = run(tree.unflatten(params, own), x)
        return [entry for entry in tree.leaves(y) if core.is_floating(entry)]

    gs = [entry for entry in tree.leaves(g) if core.is_floating(entry)]
    ys, pull = _pull(of_leaves, [*trained, *entries], gs)
    if len(gs) != len(ys):
        wanted = f"g with {len(ys)} floating tensors, one for each of y's"
        raise core.unexpected(name, wanted, core.format_briefly(g))
    for g_i, y_i in zip(gs, ys, strict=True):
        core.check_cotangent(name, g_i, y_i)
    grads = pull(gs)
    own, mine = grads[: len(trained)], iter(grads[len(trained) :])
    dx = tree.map(lambda e: next(mine) if core.is_floating(e) else None, cache.x, states=True)
    return dx, tree.unflatten(params, own)


def _pull(
    f: Callable[..., list[Tensor]], inputs: list[Tensor], gs: list[Tensor]
) -> tuple[list[Tensor], Callable[[list[Tensor]], Sequence[Tensor]]]:
    """Run f under autograd, and return its outputs and the function of g."""
    if any(t.is_meta for t in inputs):
        return f(*inputs), lambda gs: [torch.empty_like(t) for t in inputs]
    with torch.no_grad():  # where a plain tensor that requires a gradient does not count
        is_seen = core.is_transformed(*inputs, *gs)
    if is_seen:
        ys, pull, *_ = torch.func.vjp(f, *inputs)
        return ys, pull
    # torch.func does not know all that the engine does: ordinary autograd functions, those in C++,
    # hooks of saved tensors.
    has_graph = torch.is_grad_enabled() and any(t.requires_grad for t in (*inputs, *gs))
    with torch.enable_grad():
        # Each has a node of its own in the graph, so that these are partial derivatives.
        own = [
            t.view_as(t) if has_graph and t.requires_grad else t.detach().requires_grad_()
            for t in inputs
        ]
        ys = f(*own)

    def engine(gs: list[Tensor]) -> Sequence[Tensor]:
        seen = [(y, g) for y, g in zip(ys, gs, strict=True) if y.requires_grad]
        if not (seen and own):
            return [torch.zeros_like(t) for t in own]
        outputs, grads = zip(*seen, strict=True)
        return torch.autograd.grad(
            outputs, own, grads, create_graph=has_graph, materialize_grads=True
        )

    return ys, engine


def from_function(
    f: Callable[..., Arrays],
    init: Callable[[Key, Arrays], Params] | None = None,
    *,
    name: str | None = None,
) -> Layer:
    """Make a layer of a torch function, whose backward is autograd's.

    dx has None for an entry of x that is not floating, and g for one of y.

    Args:
        f: x -> y, or with init (params, x) -> y. x and y are tensors or tuples of them, as in any
            layer. f must be pure: `backward` runs it again. It should read the tensors of `params`
            by field, position or name, as `init` made them. The `init` of a network runs it on
            `meta`, or on zeros if it cannot run there.
        init: (key, x) -> params, where f has parameters.

    Example:
        >>> layer = from_function(lambda x: torch.atan2(*x), name="atan2()")
        >>> y, cache = layer.forward((), (torch.tensor(1.0), torch.tensor(2.0)))
        >>> layer.backward((), cache, torch.tensor(1.0))
        ((tensor(0.4000), tensor(-0.2000)), ())
    """
    name = f"from_function({getattr(f, '__name__', repr(f))})" if name is None else name
    run: Applied = partial(_apply, f, init is not None, name)
    forward, backward = partial(_forward, run), partial(_backward, run, name)
    return Layer(name, forward, backward, core.no_params if init is None else init)


def from_module(
    module: nn.Module, call: Callable[[nn.Module, Arrays], Arrays] | None = None
) -> tuple[Layer, Params]:
    """Make one layer of a torch module, whose backward is autograd's.

    It is for modules without a counterpart here, such as models of other libraries. `forward` and
    `predict` compute what the module computes after `eval()`, because dropout and running
    statistics would not be pure. The module itself is not changed.

    Args:
        module: any module whose `forward` is differentiable.
        call: (module, x) -> y; None calls module(x), or module(*x) for a tuple. A model with
            outputs by name needs one, such as `lambda model, ids: model(ids).logits`.

    Returns:
        The layer, and copies of the parameters that require a gradient, by name. Other parameters
        and buffers are constants. A tensor with several names has the first. `layer.init` returns
        such copies, too, of the module's parameters at that time.

    Example:
        >>> layer, params = from_module(torch.nn.Linear(3, 2).double())
        >>> layer, params["weight"].shape
        (from_module(Linear), torch.Size([2, 3]))
    """
    if not isinstance(module, nn.Module):
        raise core.wrong_kind("from_module", "module", module, "torch.nn.Module")
    name = f"from_module({type(module).__name__})"
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    # The copy shares the trained parameters, whose numbers it never uses.
    own = copy.deepcopy(module, {id(p): p for p in trained.values()}).eval()
    run, init = partial(_run, _Called(own, call or _call), name), partial(_copy, trained)
    return from_function(run, init, name=name), init(Key(0), None)


def _run(module: _Called, name: str, params: Params, x: Arrays) -> Arrays:
    inner = {f"module.{n}": p for n, p in params.items()}
    device = next((t.device for t in tensors_in((x, params))), None)
    constants = chain(module.named_parameters(), module.named_buffers())
    inner |= {name: constant.to(device) for name, constant in constants if name not in inner}
    # A copy, for a module such as ReLU(inplace=True) may write over it.
    own = tree.map(lambda entry: entry.clone() if core.is_floating(entry) else entry, x)
    y = torch.func.functional_call(module, inner, (own,))
    if not all(isinstance(entry, Tensor) for entry in (y if type(y) is tuple else (y,))):
        mend = "give call, as in call=lambda model, x: model(x).logits"
        raise unexpected(name, "y to be a tensor or a tuple of tensors", type(y).__name__, mend)
    return y


def _copy(parameters: Mapping[str, Tensor], key: Key, x: Arrays) -> Params:
    return {name: p.detach().clone() for name, p in parameters.items()}


def _call(module: nn.Module, x: Arrays) -> Arrays:
    return module(*x) if type(x) is tuple else module(x)


class _Called(nn.Module):
    """A module whose forward is a function of another one, so that `functional_call` calls it."""

    def __init__(self, module: nn.Module, call: Callable[[nn.Module, Arrays], Arrays]) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, x: Arrays) -> Arrays:
        return self.call(self.module, x)
