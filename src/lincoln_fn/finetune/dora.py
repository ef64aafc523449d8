"""DoRA: low-rank updates of a matrix, and its columns' lengths: y_j = m_j (x V)_j / |V_j| + b_j.

V = W + s A B is the matrix of `lora`, with W and b frozen, and V_j its column j. The lengths m are
trained apart from the directions.

Derivation. With z = x V, n_j = |V_j| and c_j = m_j / n_j, y = c z + b, so

    dm_j = sum g_j z_j / n_j    over the rows
    dz_j = c_j g_j
    dx = dz V^T

V enters z and n. n_j changes with V_(ij) by V_(ij) / n_j, and y_j with n_j by -m_j z_j / n_j^2, so

    dn_j = -c_j dm_j
    dV = x^T dz + U    with U_(ij) = V_(ij) dn_j / n_j

and V = W + s A B gives

    dA = s dV B^T = s (x^T (dz B^T) + U B^T)
    dB = s A^T dV = s ((x A)^T dz + A^T U)

The paper, and peft, leave out U. Here the gradient is exact. U needs no x, so it costs little.

Cache: x and z.
"""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine import FrozenParams, frozen
from lincoln_fn.core import Features, Key, Layer, Outputs, Params, Positive, PositiveInt, record
from lincoln_fn.finetune.lora import ATTENTION, adapt, low_rank, merge_low_rank
from lincoln_fn.finetune.quantize import Targets, dense_like
from lincoln_fn.initializers import Fans, fan_in_uniform
from lincoln_fn.layers import dense
from lincoln_fn.walk.internal import Pair, change_parts, composition_of


@record
class DoraParams:
    """The lengths m, A and B, and the frozen params of the layer that was there."""

    magnitude: Float[Tensor, " n_out"]
    lora_a: Float[Tensor, "n_in r"]
    lora_b: Float[Tensor, "r n_out"]
    base: FrozenParams


@record
class Cache:
    """The input, and z = x V."""

    x: Features
    z: Outputs


def forward(params: DoraParams, x: Features, *, factor: float) -> tuple[Outputs, Cache]:
    """Compute y = c z + b with z = x V."""
    core.check_input("dora", params, x, DoraParams)
    if x.shape[-1:] != params.lora_a.shape[:1]:
        raise core.wrong_shape("dora", "x", x, f"(..., {len(params.lora_a)})")
    v = _v(params, factor)
    z = x @ v
    y, bias = params.magnitude / v.norm(dim=0) * z, params.base.params.bias
    return y if bias is None else y + bias, Cache(x, z)


def backward(
    params: DoraParams, cache: Cache, g: Outputs, *, factor: float
) -> tuple[Features, DoraParams]:
    """Compute dx = dz V^T, dm, dA and dB, with the matrix U of the lengths."""
    core.check_params("dora", params, DoraParams)
    core.check_cache("dora", cache, Cache)
    core.check_cotangent("dora", g, cache.z)
    v = _v(params, factor)
    n = v.norm(dim=0)
    c = params.magnitude / n
    x, z, g_rows = dense.rows(cache.x), dense.rows(cache.z), dense.rows(g)
    dm = (g_rows * z).sum(0) / n
    dz = c * g_rows
    u = v * (-c * dm / n)
    da = factor * (x.mT @ (dz @ params.lora_b.mT) + u @ params.lora_b.mT)
    db = factor * ((x @ params.lora_a).mT @ dz + params.lora_a.mT @ u)
    return (dz @ v.mT).reshape(cache.x.shape), DoraParams(dm, da, db, params.base)


def _v(params: DoraParams, factor: float) -> Float[Tensor, "n_in n_out"]:
    """Compute V = W + s A B."""
    v: Tensor = params.base.params.weight + factor * (params.lora_a @ params.lora_b)
    return v


def decompose(params: Params, key: Key, *, r: int) -> DoraParams:
    """Make the params in the place of those of a dense layer, with the same y."""
    weight = params.weight
    n_in, n_out = weight.shape
    lora_a = fan_in_uniform().draw(key.near(weight), (n_in, r), Fans(n_in, r), weight.dtype)
    return DoraParams(weight.norm(dim=0), lora_a, weight.new_zeros(r, n_out), FrozenParams(params))


def _init(key: Key, x: Features, *, layer: Layer, r: int) -> DoraParams:
    return decompose(layer.init(key, x), key.fold_in(1), r=r)


def weight_decomposed(name: str, layer: Layer, r: int, factor: float) -> Layer:
    """Make the layer in the place of a dense one with a name; `layer` is one of its sizes."""
    call = f"dora({name})"
    made = Layer(
        call,
        partial(forward, factor=factor),
        partial(backward, factor=factor),
        partial(_init, layer=layer, r=r),
    )
    arguments = {"name": name, "layer": layer, "r": r, "factor": factor}
    return core.with_spec(made, core.Spec(weight_decomposed, arguments, call))


def merge_decomposed(layer: Layer, params: DoraParams) -> Pair:
    """Make the dense layer with the matrix m_j V_j / |V_j|."""
    assert layer.spec is not None, "`weight_decomposed` made it"
    v = _v(params, layer.spec["factor"])
    merged = dense.Params(params.magnitude / v.norm(dim=0) * v, params.base.params.bias)
    return dense_like(merged), merged


@core.checked
def dora(
    net: Layer,
    params: Params,
    key: Key,
    *,
    r: PositiveInt = 8,
    alpha: Positive = 16.0,
    targets: Targets = ATTENTION,
) -> tuple[Layer, Params]:
    """Train low-rank updates of the directions of matrices and, apart from them, the lengths.

    It is `lora` with a trained length m_j of each column: y_j = m_j (x V)_j / |V_j| + b_j with
    V = W + (alpha / r) A B. m begins as the lengths of W's columns, and B at 0. The
    arguments are those of `lora`.

    Raises:
        LayerError: if a pattern fits no dense layer, and it lists their paths; if a column of a
            matrix is zero, for it has no direction.

    Source:
        Liu and others, "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024.

    Example:
        >>> net, x = lf.serial(lf.dense(2), lf.tanh()), torch.ones(1, 3)
        >>> net, params = dora(net, net.init(lf.Key(0), x), lf.Key(1), r=1, targets=("0",))
        >>> lf.tree.paths(params)
        ['0.magnitude', '0.lora_a', '0.lora_b']
    """
    adapted = partial(_adapted, r=r, factor=alpha / r)
    return adapt("dora", adapted, net, params, key, targets)


def _adapted(layer: Layer, params: Params, key: Key, path: str, *, r: int, factor: float) -> Pair:
    decomposed = decompose(params, key, r=r)
    if zero := int((decomposed.magnitude == 0).sum()):
        expected, mend = "columns of W with a direction", "use lora, or other targets"
        raise core.unexpected(f"dora: {layer.name}", expected, f"{zero} of zeros", mend)
    sized = dense_like(params) if isinstance(params, dense.Params) else layer
    return weight_decomposed(layer.name, sized, r, factor), decomposed


@core.checked
def merge_lora(net: Layer, params: Params) -> tuple[Layer, Params]:
    """Add the updates of `lora` and `dora` to the matrices, and thaw what they froze.

    The network has its former layers, with W + (alpha / r) A B in the place of W. An adapted layer
    of 4 or 8 bits becomes dense. What was frozen before is thawed, too.

    Example:
        >>> net, x = lf.serial(lf.dense(2), lf.tanh()), torch.ones(1, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> adapted = lf.lora(net, params, lf.Key(1), targets=("0",))
        >>> merged = merge_lora(*adapted)
        >>> merged[0], (merged[1][0].weight == params[0].weight).all()
        (serial(dense(2), tanh()), tensor(True))
    """
    return change_parts(_merged, net, "", params, None)


def _merged(layer: Layer, path: str, params: Params, key: Key | None) -> Pair | None:
    composed = composition_of(layer)
    # By the layer, for a combinator's params may be those of its part.
    if composed is None:
        return merge_decomposed(layer, params) if isinstance(params, DoraParams) else None
    if core.made_by(layer, low_rank):
        return merge_low_rank(layer, params)
    if core.made_by(layer, frozen):
        return change_parts(_merged, composed.parts[0], path, params.params, key)
    return None
