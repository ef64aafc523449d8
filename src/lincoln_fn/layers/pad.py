"""Padding of one, two or three spatial axes, in constant, reflect, replicate or circular mode.

Derivation. Element j of y copies element s(j) of x, or is a constant; in one axis, with l new
elements before x's n and so j = -l ... n + r - 1,

    reflect     s(j) = -j before and 2 (n - 1) - j after: mirrored, the edge not repeated
    replicate   s(j) = 0 before and n - 1 after: the edge
    circular    s(j) = j + n before and j - n after: the other end
    constant    y_j = value before and after

and s(j) = j within. dy_j/dx_i = 1 where s(j) = i, else 0, so

    dx_i = the sum of g_j over all j with s(j) = i,

that is g_j within, to which the g of the copies is added; constants give nothing. `_padding` does
this axis by axis. Cache: stand-ins for x and y, the amounts and the mode.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers import _padding
from lincoln_fn.layers._padding import Amounts
from lincoln_fn.layers._spatial import check_image
from lincoln_fn.layers._stand_in import StandIns, stand_ins
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_input


@record
class Cache:
    """The shapes, how many elements were added before and after on each axis, and the mode."""

    shapes: StandIns
    amounts: Amounts = static()
    mode: str = static()


def forward(
    params: tuple[()],
    x: Float[Tensor, "*batch_and_spatial"],
    *,
    padding: tuple[int, ...],
    mode: str = "constant",
    value: float = 0.0,
) -> tuple[Float[Tensor, "*batch_and_padded"], Cache]:
    """Compute y_j = x_s(j), or the constant.

    Args:
        params: ().
        x: of shape (batch, channels, *spatial) or (channels, *spatial).
        padding: how many elements to add before and after, for the last axis first, in torch's
            order: (left, right, top, bottom, front, back). In constant mode a negative number
            takes elements away.
        mode: "constant", "reflect", "replicate" or "circular".
        value: of the new elements in constant mode.

    Returns:
        y of shape (..., channels, *padded), and the cache.

    Raises:
        LayerError: if x is not such a floating tensor or too small for the mode, or params are
            another layer's.

    Example:
        >>> forward((), torch.tensor([[1.0, 2.0, 3.0]]), padding=(2, 1), mode="reflect")[0]
        tensor([[3., 2., 1., 2., 3., 2.]])
    """
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    amounts = pairs[::-1]
    check_input("pad", params, x)
    check_image("pad", x, len(amounts))
    _padding.check_amounts("pad", x, amounts, mode)
    y = _padding.pad(x, amounts, mode, value)
    return y, Cache(stand_ins(x, y), amounts, mode)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*batch_and_padded"]
) -> tuple[Float[Tensor, "*batch_and_spatial"], tuple[()]]:
    """Compute dx_i = the sum of g_j over all copies j of element i.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> x = torch.tensor([[1.0, 2.0, 3.0]])
        >>> _, cache = forward((), x, padding=(1, 1), mode="circular")
        >>> backward((), cache, torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0]]))[0]
        tensor([[18.,  4.,  9.]])
    """
    check_cache("pad", cache, Cache)
    check_cotangent("pad", g, cache.shapes.y)
    shape = tuple(cache.shapes.x.shape)
    return _padding.pad_backward(g, shape, cache.amounts, cache.mode), ()
