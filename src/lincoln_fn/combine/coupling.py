"""Affine coupling: one half of x is scaled and shifted by what a network makes of the other half.

It is a step of a normalizing flow, whose inverse and whose volume cost no more than itself. With x
cut into x_1 and x_2, and a and t the two halves of what the network makes of x_1,

    s = c tanh(a / c)
    y_1 = x_1
    y_2 = x_2 e^s + t
    l' = l + sum s

where c is the largest log-scale, and l is log |det| of the Jacobian of the steps before. That of
this step is triangular, with 1 and e^s on its diagonal, so sum s is added.

Derivation. With g the gradient of y, g_l that of l', and "back" that of the network's input:

    dx_2 = g_2 e^s
    dt = g_2
    ds = g_2 x_2 e^s + g_l
    dx_1 = g_1 + "back"(da, dt)    and `softcap` derives da
    dl = g_l

Cache: x_2, e^s, the records of the network and of the bound, and stand-ins for y and l'.

The inverse needs none of the network, since s and t are what it makes of x_1:

    x_1 = y_1
    x_2 = (y_2 - t) e^(-s)
    l = l' - sum s
"""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine._wiring import check_mirrors, wrong_output
from lincoln_fn.combine.serial import is_serial
from lincoln_fn.core import Arrays, Layer, Params, Positive, stand_in, static, unexpected
from lincoln_fn.layers.identity import identity
from lincoln_fn.layers.softcap import softcap
from lincoln_fn.walk import ITS_PART, VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import PREDICT, Record, composition_of

LogDet: TypeAlias = Float[Tensor, " batch"]
WithLogDet: TypeAlias = tuple[Tensor, LogDet]


@core.record
class CouplingCache:
    """The changed half, its scale, the records of both parts, y's shapes, and x's form."""

    changed: Tensor
    scale: Tensor
    net: Record
    bound: Record
    like: WithLogDet
    is_pair: bool = static()
    has_log_det: bool = static()


def there(
    visit: VisitThere, params: Params, x: Arrays, *, dim: int, swap: bool
) -> tuple[WithLogDet, CouplingCache]:
    """Compute y_2 = x_2 e^s + t and l' = l + sum s."""
    is_pair = isinstance(x, tuple)
    x, log_det = with_log_det(visit.label, x)
    kept, changed = halves(visit.label, x, dim, swap)
    s, t, net, bound = scale_and_shift(visit, params, kept, changed, dim)
    scale = s.exp()
    y = join(kept, changed * scale + t, dim, swap)
    total = s.flatten(1).sum(1)
    total = total if log_det is None else log_det + total
    like, has_log_det = (stand_in(y), stand_in(total)), log_det is not None
    return (y, total), CouplingCache(changed, scale, net, bound, like, is_pair, has_log_det)


def back(
    visit: VisitBack, params: Params, cache: CouplingCache, g: WithLogDet, *, dim: int, swap: bool
) -> tuple[Arrays, Record]:
    """Compute dx_2 = g_2 e^s, ds = g_2 x_2 e^s + g_l, and dx_1 through the network."""
    core.check_cache(visit.label, cache, CouplingCache)
    check_mirrors(visit.label, g, cache.like)
    g_y, g_log_det = g
    g_kept, g_changed = halves(visit.label, g_y, dim, swap)
    dchanged = g_changed * cache.scale
    ds = dchanged * cache.changed + g_log_det.reshape(-1, *[1] * (g_y.ndim - 1))
    da, bound = visit(1, (), cache.bound, ds)
    da_and_dt = None if da is None else torch.cat((da, g_changed), dim)
    dkept, net = visit(0, params, cache.net, da_and_dt)
    if dkept is None:
        return None, (net, bound)
    dx = join(g_kept + dkept, dchanged, dim, swap)
    dlog_det = g_log_det if cache.has_log_det else None
    return (dx, dlog_det) if cache.is_pair else dx, (net, bound)


def scale_and_shift(
    visit: VisitThere, params: Params, kept: Tensor, changed: Tensor, dim: int
) -> tuple[Tensor, Tensor, Record, Record]:
    """Compute s and t of one half, and the records of both parts."""
    made, net = visit(0, params, kept)
    wanted = list(changed.shape)
    wanted[dim] *= 2
    if not isinstance(made, Tensor) or list(made.shape) != wanted:
        expected = f"an output of shape {tuple(wanted)}, for scale and shift"
        raise wrong_output(visit, 0, expected, getattr(made, "shape", made))
    a, t = made.chunk(2, dim)
    s, bound = visit(1, (), a)
    return s, t, net, bound


def with_log_det(label: str, x: Arrays) -> tuple[Tensor, LogDet | None]:
    """Return x and l, which is None for a first step."""
    if isinstance(x, Tensor):
        return x, None
    if type(x) is not tuple or len(x) != 2:
        expected = "x to be a tensor or a tuple (x, log_det)"
        raise unexpected(label, expected, core.describe_non_tuple(x))
    y, log_det = x
    core.check_input(label, (), y)
    if log_det is not None and getattr(log_det, "shape", None) != y.shape[:1]:
        expected = f"log_det of shape {tuple(y.shape[:1])}, one number for each example"
        raise unexpected(label, expected, core.format_briefly(log_det))
    return y, log_det


def halves(label: str, x: Tensor, dim: int, swap: bool) -> tuple[Tensor, Tensor]:
    """Return the half that stays and the half that is changed."""
    core.check_axis(label, x, dim)
    if dim % x.ndim == 0 or x.shape[dim] < 2:
        expected = f"two features or more in axis {dim}, behind the examples"
        raise unexpected(label, expected, f"shape {tuple(x.shape)}")
    first, second = x.chunk(2, dim)
    return (second, first) if swap else (first, second)


def join(kept: Tensor, changed: Tensor, dim: int, swap: bool) -> Tensor:
    """Join both halves to a whole."""
    return torch.cat((changed, kept) if swap else (kept, changed), dim)


def _init(parts: tuple[Layer, ...], key: core.Key, x: Arrays, *, dim: int, swap: bool) -> Params:
    x, _ = with_log_det("coupling", x)
    return parts[0].init(key, halves("coupling", x, dim, swap)[0])


def _advance(visit: VisitThere, params: Params, cache: CouplingCache) -> Params:
    core.check_cache(visit.label, cache, CouplingCache)
    return visit.advance(0, params, cache.net)


def _needs_dx(i: int, params: Params) -> bool:
    """Return whether part i is the bound: the network needs its dx."""
    return i == 1


@core.constructor
def coupling(
    net: Layer, *, swap: bool = False, max_log_scale: Positive | None = 2.0, dim: int = -1
) -> Layer:
    """Scale and shift one half of x by what a network makes of the other: y_2 = x_2 e^s + t.

    A flow is several of them in `serial`, with `swap` every other time. It is trained by
    `losses.flow_nll`, and `inverse` computes its inverse.

    x is a tensor (N, ...), or (x, log_det), as the step before returns it; log_det has shape (N,),
    or is None for zeros. y is (y, log_det), to which log |det| of each Jacobian is added.

    Args:
        net: from one half of x to twice the features of the other: a, of which s is made, and t.
        swap: whether the second half stays and the first is changed.
        max_log_scale: the bound c of s = c tanh(a / c); None for s = a.
        dim: the axis of the features, such as 1 for the channels of images.

    Source:
        Dinh, Sohl-Dickstein and Bengio, "Density Estimation Using Real NVP", 2017.

    Example:
        >>> flow, x = coupling(lf.dense(2, bias=False), max_log_scale=None), torch.ones(1, 2)
        >>> params = lf.layers.dense.Params(torch.tensor([[1.0, 3.0]]), None)
        >>> flow.predict(params, x)  # e + 3, and s = 1
        (tensor([[1.0000, 5.7183]]), tensor([1.]))
        >>> lf.inverse(flow, params, flow.predict(params, x))
        (tensor([[1., 1.]]), tensor([0.]))
    """
    core.require(dim != 0, "coupling", "dim to be an axis behind the examples", dim)
    bound = identity() if max_log_scale is None else softcap(max_log_scale)
    # The mask is lost in log_det, a sum over all positions.
    make = partial(composition, parts=(net, bound), arrange=ITS_PART, mask="lost")
    functions = {"init": _init, "advance": _advance, "needs_dx": _needs_dx}
    return core.bare(make, there=there, back=back, **functions)


@core.checked
def inverse(flow: Layer, params: Params, y: Arrays) -> WithLogDet:
    """Compute the x of a flow's y, from the last step to the first: new examples from noise.

    Args:
        flow: a `coupling`, or a `serial` of them.
        y: a tensor, such as numbers from the standard normal distribution, or (y, log_det).

    Returns:
        (x, log_det): log |det| of the inverse's Jacobian is added to y's log_det, or to 0.

    Example:
        >>> flow, z = lf.serial(lf.coupling(lf.dense(2))), torch.zeros(3, 2)
        >>> x, log_det = inverse(flow, flow.init(lf.Key(0), z), z)
        >>> x.shape, log_det.shape
        (torch.Size([3, 2]), torch.Size([3]))
    """
    composed = composition_of(flow)
    if composed is not None and is_serial(flow):
        check_entries(composed.label, "params", params, len(composed.parts))
        for part, entry in zip(reversed(composed.placed), reversed(params), strict=True):
            y = inverse(part, entry, y)
        solved: WithLogDet = y
        return solved
    if composed is None or not core.made_by(flow, coupling):
        expected = "a coupling, or a serial of them"
        raise unexpected("inverse", expected, f"{flow.name}, whose inverse is not known")
    assert flow.spec is not None, "`coupling` made it"
    dim, swap = flow.spec["dim"], flow.spec["swap"]
    y, log_det = with_log_det(composed.label, y)
    kept, changed = halves(composed.label, y, dim, swap)
    s, t, _, _ = scale_and_shift(VisitThere(composed, PREDICT), params, kept, changed, dim)
    total = s.flatten(1).sum(1)
    x = join(kept, (changed - t) * (-s).exp(), dim, swap)  # x_2 = (y_2 - t) e^-s
    return x, -total if log_det is None else log_det - total
