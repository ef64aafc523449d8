"""Layers of a graph for functions of torch that no constructor of the library makes.

Derivation of `flat`. A comparison, or an index, stays as it is where x changes a little: dx = 0.
`converted` has dx = g in the dtype of x, or 0 if one of the dtypes has no floats.

Derivation of `einsum`. With the letters a and b of two inputs and c of y,

    y_c = sum A_a B_b    over the letters that are not in c
    dA_a = sum g_c B_b    over the letters that are not in a

Along a letter that only A has, dA repeats. More inputs are more factors.

Cache: stand-ins for the inputs; the inputs of `einsum`.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine._moved import Call
from lincoln_fn.core import Arrays, Cache, Layer, Params, bare, declare, stand_in, tree, unexpected
from lincoln_fn.layers.broadcast import summed_to
from lincoln_fn.layers.stop_gradient import zero


def flat(name: str, *args: object, **options: object) -> Layer:
    """Make the layer of a function of torch whose derivative is 0, such as "gt"."""
    call = Call(name, args, options)
    return Layer(str(call), partial(_jump, call=call), _stay)


def _jump(params: tuple[()], x: Arrays, *, call: Call) -> tuple[Tensor, Cache]:
    y = call(*(x if type(x) is tuple else (x,)))
    return y.detach(), tree.map(stand_in, x)


declare(_jump, kind="other")


def _stay(params: tuple[()], cache: Cache, g: Arrays) -> tuple[Arrays, tuple[()]]:
    """Return dx = 0."""
    return tree.map(zero, cache), ()


def converted(dtype: torch.dtype) -> Layer:
    """Make the layer of x.to(dtype)."""
    return Layer(f"to({dtype})", partial(_convert, dtype=dtype), _convert_back)


def _convert(params: tuple[()], x: Tensor, *, dtype: torch.dtype) -> tuple[Tensor, Cache]:
    return x.to(dtype), stand_in(x)


declare(_convert, kind="moving", mask="position")


def _convert_back(params: tuple[()], x: Tensor, g: Tensor | None) -> tuple[Arrays, tuple[()]]:
    """Compute dx = g in x's dtype."""
    is_floating = g is not None and g.is_floating_point() and x.is_floating_point()
    return g.to(x.dtype) if g is not None and is_floating else zero(x), ()


def constant(tensor: Tensor) -> Layer:
    """Make a layer without inputs, of a tensor that is not trained."""
    return Layer(
        f"constant({core.format_briefly(tensor)})", partial(_give, tensor=tensor.clone()), _take
    )


def _give(params: tuple[()], x: tuple[()], *, tensor: Tensor) -> tuple[Tensor, tuple[()]]:
    return tensor, ()


declare(_give, kind="embedding")


def _take(params: tuple[()], cache: tuple[()], g: Tensor) -> tuple[tuple[()], tuple[()]]:
    return (), ()


@core.constructor
def einsum(equation: str) -> Layer:
    """Make the layer of `torch.einsum`, whose equation has letters alone."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = tuple(inputs.split(","))
    if not arrow:
        output = "".join(sorted(each for each in {*inputs} - {","} if inputs.count(each) == 1))
    if "." in equation or any(len({*term}) < len(term) for term in (*terms, output)):
        expected = "an equation with a letter for each axis, each once in an input"
        raise unexpected("graph: einsum", expected, f"{equation!r}")
    there, back = (partial(f, terms=terms, output=output) for f in (contract, _contract_back))
    return bare(Layer, there, back)


def contract(
    params: tuple[()], x: Arrays, *, terms: tuple[str, ...], output: str
) -> tuple[Tensor, Cache]:
    """Compute y_c = sum A_a B_b."""
    x = x if type(x) is tuple else (x,)
    return Call("einsum")(f"{','.join(terms)}->{output}", *x), x


declare(contract, kind="product", along="rows")


def _contract_back(
    params: tuple[()], x: tuple[Tensor, ...], g: Tensor, *, terms: tuple[str, ...], output: str
) -> tuple[Arrays, tuple[()]]:
    """Compute dA_a = sum g_c B_b."""
    dxs = []
    for i, (term, x_i) in enumerate(zip(terms, x, strict=True)):
        behind = (output, *terms[:i], *terms[i + 1 :])
        letters = "".join(each for each in term if any(each in other for other in behind))
        dx = torch.einsum(f"{','.join(behind)}->{letters}", g, *x[:i], *x[i + 1 :])
        axes = [(each in letters, n) for each, n in zip(term, x_i.shape, strict=True)]
        dx = summed_to(dx, tuple(n for is_found, n in axes if is_found))
        dx = dx.reshape([n if is_found else 1 for is_found, n in axes])
        dxs.append(dx.expand(x_i.shape))
    return tuple(dxs) if len(dxs) != 1 else dxs[0], ()


def without_params(layer: Layer, params: Params) -> Layer:
    """Make a layer that has its params in itself, for a norm without weights."""
    there, back = (partial(f, layer=layer, own=params) for f in (_run_own, _run_back))
    return Layer(layer.name, there, back)


def _run_own(params: tuple[()], x: Tensor, *, layer: Layer, own: Params) -> tuple[Tensor, Cache]:
    y, cache = layer.forward(own, x)
    return y, cache


declare(_run_own, kind="norm")


def _run_back(
    params: tuple[()], cache: Cache, g: Tensor, *, layer: Layer, own: Params
) -> tuple[Tensor, tuple[()]]:
    return layer.backward(own, cache, g)[0], ()
