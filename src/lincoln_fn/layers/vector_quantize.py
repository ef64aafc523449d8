"""Vector quantisation: each vector becomes the nearest of n codes.

With the codes W_1 to W_n, the rows of a table, each vector x of the features has

    k = "argmin"_j |x - W_j|^2
    q = W_k
    y = (c, x, q)    with c = x + "stop"(q - x)

c is q, for the layers behind. x and q are for the loss that draws them together,
`losses.vector_quantization`.

Only the part of the distance that differs between codes is computed. The mean of all codes, mu, is
subtracted from x and W first. That changes no distance, and keeps the numbers small: the squares of
codes far from 0 are large, and their rounding hides how near the codes are.

    |x - W_j|^2 = |x - mu|^2 + |W_j - mu|^2 - 2 (x - mu)^T (W_j - mu)
    k = "argmin"_j (|W_j - mu|^2 - 2 (x - mu)^T (W_j - mu))

Derivation. The table is read as an embedding's is, and k has the derivative 0 almost everywhere. So
by itself q would give x no gradient. `stop_gradient` takes q - x for a constant, so that c gives
its gradient to x as it is, straight through. With g_c, g_x and g_q the gradients of y's parts,

    delta_(vt) = {(1, if k_t = v), (0, otherwise):}
    dx = g_c + g_x
    dW_v = sum_t delta_(vt) g_(qt)

With a decay, W is a state and has no gradient. It is the mean of the vectors that had each code,
recent ones more than old ones: with m_v their number in the batch, and s_v their sum,

    N_v = gamma N_v + (1 - gamma) m_v
    M_v = gamma M_v + (1 - gamma) s_v
    W_v = M_v / N_v

N begins with ones and M with W, so that a code without vectors stays where it is; so does one whose
N has fallen below 1e-6.

Cache: k, and x if there is a decay; of the whole, the caches of both parts. Source: van den Oord,
Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017, section 3; the running
means are those of appendix A.1.
"""

from __future__ import annotations

from functools import partial
from typing import Final, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Decay, Key, Layer, PositiveInt, record, stand_in, unexpected
from lincoln_fn.initializers import Fans, Initializer, normal
from lincoln_fn.layers.common.inputs import add_at
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.layers.stop_gradient import stop_gradient
from lincoln_fn.walk import ITS_PART, VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import Record, one_part

NAME = "vector_quantize"
LEAST: Final = 1e-6
Vectors: TypeAlias = Float[Tensor, "*batch features"]
Codes: TypeAlias = Float[Tensor, "n features"]


@record
class Codebook:
    """The codes, which are trained."""

    weight: Codes


@record
class RunningCodebook(core.State):
    """The codes, and the running numbers and sums of the vectors that had each of them."""

    weight: Codes
    count: Float[Tensor, " n"]
    total: Codes


Table: TypeAlias = Codebook | RunningCodebook


@record
class Cache:
    """The number of each vector's code, and the vectors, or a stand-in for them."""

    index: Int[Tensor, "*batch"]
    x: Vectors


def nearest(params: Table, x: Vectors) -> Int[Tensor, "*batch"]:
    """Find the number of the nearest code, 0 to n - 1, of each vector.

    params are those of a `vector_quantize`. x holds vectors, (..., features).

    Example:
        >>> params = Codebook(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        >>> nearest(params, torch.tensor([[0.2, 0.1], [0.6, 0.9]]))
        tensor([0, 1])
    """
    if not isinstance(params, Codebook | RunningCodebook):
        raise unexpected(NAME, "params Codebook or RunningCodebook", repr(params))
    core.check_input(NAME, (), x)
    core.check_like(NAME, "x", x, params.weight)
    if x.shape[-1:] != params.weight.shape[1:]:
        raise core.wrong_shape(NAME, "x", x, f"(..., {params.weight.shape[1]})")
    weight = widened(params.weight)
    mu = weight.mean(0)
    weight, x = weight - mu, widened(x) - mu
    distance = weight.square().sum(1) - 2 * (x @ weight.mT)
    return distance.argmin(-1)


def forward(params: Table, x: Vectors) -> tuple[Vectors, Cache]:
    """Compute q = W_k with the nearest k."""
    k = nearest(params, x)
    is_read = isinstance(params, RunningCodebook)
    q = torch.nn.functional.embedding(k, params.weight)
    return q, Cache(k, x if is_read else stand_in(x))


def backward(params: Table, cache: Cache, g: Vectors) -> tuple[Vectors, Table]:
    """Compute dW_v = sum of g_t over all t with k_t = v, and dx = 0."""
    dx = torch.zeros_like(g)
    if isinstance(params, RunningCodebook):
        return dx, params
    return dx, Codebook(_sums(cache.index, g, len(params.weight)))


def terms(params: Table, cache: Cache, g: Vectors) -> Table:
    """Return dW_n: g_nt in row k_nt."""
    core.check_batched(NAME, g)
    if isinstance(params, RunningCodebook):
        return params
    return core.mirror(params, weight=core.Gather(cache.index, g))


def advance(params: RunningCodebook, cache: Cache, *, decay: float) -> RunningCodebook:
    """Compute N = gamma N + (1 - gamma) m, M = gamma M + (1 - gamma) s and W = M / N."""
    ones = cache.x.new_ones(*cache.x.shape[:-1], 1)
    m = _sums(cache.index, ones, len(params.count)).squeeze(1)
    count = decay * params.count + (1 - decay) * m
    total = decay * params.total + (1 - decay) * _sums(cache.index, cache.x, len(params.total))
    mean, is_used = total / count.clamp(min=LEAST).unsqueeze(1), count > LEAST
    return RunningCodebook(torch.where(is_used.unsqueeze(1), mean, params.weight), count, total)


def _sums(index: Int[Tensor, "*batch"], rows: Vectors, n: int) -> Codes:
    return add_at(index.flatten(), rows.reshape(-1, rows.shape[-1]), n, 0)


def _init_table(
    key: Key, x: Vectors, *, n: int, decay: float | None, weight_init: Initializer
) -> Table:
    core.check_input(NAME, (), x)
    key, features = core.checked_key(NAME, key), x.shape[-1]
    weight = weight_init.draw(key, (n, features), Fans(n, features), x.dtype)
    if decay is None:
        return Codebook(weight)
    return RunningCodebook(weight, weight.new_ones(n), weight.clone())


def _there(visit: VisitThere, params: Table, x: Vectors) -> tuple[Arrays, Record]:
    """Compute c = x + stop(q - x)."""
    q, table = visit(0, params, x)
    constant, stopped = visit(1, (), q - x)
    return (x + constant, x, q), (table, stopped)


def _back(visit: VisitBack, params: Table, cache: Record, g: Arrays) -> tuple[Arrays, Record]:
    """Compute dx = g_c + g_x, and dW of g_q."""
    check_entries(visit.label, "the cache", cache, 2)
    check_entries(visit.label, "g", g, 3)
    g_c, g_x, g_q = g
    dconstant, stopped = visit(1, (), cache[1], g_c)
    of_table, table = visit(0, params, cache[0], g_q)
    for g_of_x in (g_c, g_x):
        core.check_cotangent(visit.label, g_of_x, g_q)
    dx = None if of_table is None or dconstant is None else g_c + g_x
    return dx, (table, stopped)


@core.constructor(kind="embedding", terms=terms)
def vector_quantize(
    n: PositiveInt, *, decay: Decay | None = None, weight_init: Initializer = normal(1.0)
) -> Layer:
    """Replace each vector by the nearest of n codes, with a gradient straight through.

    x has shape (..., features). y is (code, x, q): the code of each vector, of x's shape, with the
    gradient of x; x itself; and the code with the gradient of the table. Layers behind take the
    first, as by `select(0)`; `losses.vector_quantization` takes (x, q).
    `layers.vector_quantize.nearest(params, x)` gives the numbers of the codes. The params are
    `layers.vector_quantize.Codebook`, or `RunningCodebook` with a decay.

    Args:
        decay: how much of the running means of the vectors that had each code is kept from step to
            step, such as 0.99. The codes are these means, and are not trained. None: they are
            trained.
        weight_init: draws the codes, by default standard normal, which suits normalised vectors.

    Example:
        >>> layer, params = vector_quantize(2), Codebook(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        >>> layer.predict(params, torch.tensor([[0.2, 0.1], [0.6, 0.9]]))[0]
        tensor([[0., 0.],
                [1., 1.]])
    """
    init = partial(_init_table, n=n, decay=decay, weight_init=weight_init)
    moved = core.unchanged if decay is None else partial(advance, decay=decay)
    table = Layer(f"codebook({n})", forward, backward, init, advance=moved)
    make = partial(composition, parts=(table, stop_gradient()), arrange=ITS_PART)
    return core.bare(make, there=_there, back=_back, init=one_part.init, needs_dx=one_part.needs_dx)
