"""Spectral normalisation: a layer's weight is divided by its largest singular value.

The weight W is read as a matrix, with one axis as its rows. With vectors u and v of length 1 that
approximate the singular vectors of the largest singular value,

    sigma = u^T W v
    hat W = W / sigma

u and v are a state, which `advance` improves by steps of the power iteration, with the step's W:

    u = W v / |W v|
    v = W^T u / |W^T u|

Derivation. The layer's own backward gives dx and d hat W. u and v are constants, so W enters
hat W directly and through sigma, with (d sigma)/(dW) = u v^T:

    d sigma = -(1 / sigma) sum d hat W hat W
    dW = (d hat W) / sigma + u v^T d sigma = 1 / sigma (d hat W - u v^T sum d hat W hat W)

Cache: the layer's own. Source: Miyato and others, "Spectral Normalization for Generative
Adversarial Networks", 2018, equations 7 to 9.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, Positive, PositiveInt, keys, record
from lincoln_fn.layers import conv_transpose, dense
from lincoln_fn.layers.weight_norm import axis_of, check_layer, weight_of

NAME = "spectral_norm"
# As many as torch makes when the layer is made.
FIRST_ITERATIONS = 15


@record
class Vectors(core.State):
    """The approximate singular vectors."""

    u: Float[Tensor, " rows"]
    v: Float[Tensor, " columns"]


@record
class SpectralNormParams:
    """The layer's own params, with W, and the vectors."""

    layer: Params
    vectors: Vectors


def init(key: Key, x: Arrays, *, layer: Layer, eps: float, dim: int | None) -> SpectralNormParams:
    """Draw the layer's params and the vectors, and improve these by 15 iterations."""
    drawn = layer.init(key, x)
    matrix = _matrix(weight_of(NAME, drawn), drawn, dim)
    sizes = enumerate(matrix.shape, 1)
    u, v = (keys.normal(key.fold_in(i), (n,), dtype=matrix.dtype) for i, n in sizes)
    return SpectralNormParams(drawn, _iterated(matrix, Vectors(u, v), FIRST_ITERATIONS, eps))


def forward(
    params: SpectralNormParams, x: Arrays, *, layer: Layer, dim: int | None
) -> tuple[Arrays, Cache]:
    """Compute the layer's y with hat W = W / sigma."""
    return layer.forward(_made(params, dim)[0], x)


def backward(
    params: SpectralNormParams, cache: Cache, g: Arrays, *, layer: Layer, dim: int | None
) -> tuple[Arrays, SpectralNormParams]:
    """Compute dW = (d_hat_W - u v^T sum(d_hat_W hat W)) / sigma."""
    made, sigma = _made(params, dim)
    dx, dmade = layer.backward(made, cache, g)
    along = (dmade.weight * made.weight).sum()
    axis = _rows(made.weight, params.layer, dim)
    outer = params.vectors.u.unsqueeze(1) * params.vectors.v
    outer = outer.reshape(made.weight.movedim(axis, 0).shape).movedim(0, axis)
    dw = (dmade.weight - outer * along) / sigma
    return dx, SpectralNormParams(core.evolve(dmade, weight=dw), params.vectors)


def input_grad(
    params: SpectralNormParams, cache: Cache, g: Arrays, *, layer: Layer, dim: int | None
) -> Arrays:
    """Compute the layer's dx with hat W = W / sigma."""
    return layer.input_grad(_made(params, dim)[0], cache, g)


def advance(
    params: SpectralNormParams, cache: Cache, *, n_power_iterations: int, eps: float,
    dim: int | None,
) -> SpectralNormParams:  # fmt: skip
    """Compute u = W v / |W v| and v = W^T u / |W^T u|, several times."""
    matrix = _matrix(weight_of(NAME, params.layer), params.layer, dim)
    vectors = _iterated(matrix, params.vectors, n_power_iterations, eps)
    return SpectralNormParams(params.layer, vectors)


core.declare(advance, reads=())


def _iterated(
    matrix: Float[Tensor, "rows columns"], vectors: Vectors, count: int, eps: float
) -> Vectors:
    u, v = vectors.u, vectors.v
    for _ in range(count):
        u = normalize(matrix @ v, dim=0, eps=eps)
        v = normalize(matrix.mT @ u, dim=0, eps=eps)
    return Vectors(u, v)


def _made(params: SpectralNormParams, dim: int | None) -> tuple[Params, Float[Tensor, ""]]:
    weight = weight_of(NAME, params.layer)
    sigma = params.vectors.u @ (_matrix(weight, params.layer, dim) @ params.vectors.v)
    return core.evolve(params.layer, weight=weight / sigma), sigma


def _rows(weight: Tensor, of: Params, dim: int | None) -> int:
    """Return the axis of the rows; by default, as in torch, that of y's channels."""
    default = 1 if isinstance(of, conv_transpose.Params | dense.Params) else 0
    return axis_of(NAME, weight, dim, default)


def _matrix(weight: Tensor, of: Params, dim: int | None) -> Float[Tensor, "rows columns"]:
    return weight.movedim(_rows(weight, of, dim), 0).flatten(1)


@core.constructor(kind="other")
def spectral_norm(
    layer: Layer, n_power_iterations: PositiveInt = 1, eps: Positive = 1e-12,
    dim: int | None = None,
) -> Layer:  # fmt: skip
    """Divide a layer's weight by its largest singular value: W / sigma.

    A dense layer of such a weight makes no difference of two inputs longer, which keeps the
    discriminator of a GAN smooth. sigma is approximated by vectors that each step improves. They
    are constants within a step, of the W of the steps before: torch makes its iteration first, and
    with the new W. In a `state_dict`, the tensors have the names and shapes of these params,
    `layers.spectral_norm.SpectralNormParams`, not those of torch's parametrization. The gradients
    of single examples are computed for one example after the other.

    Args:
        layer: a single layer whose params have a weight, such as `dense` or `conv2d`.
        eps: the least length that a vector is divided by.
        dim: the axis of the weight that becomes the matrix's rows. The default is torch's: the
            axis of y's features or channels.

    Example:
        >>> layer, x = spectral_norm(lf.dense(2, bias=False)), torch.eye(3)
        >>> y = layer.predict(layer.init(lf.Key(0), x), x)
        >>> torch.linalg.matrix_norm(y, 2)
        tensor(1.0000)
    """
    check_layer(NAME, layer)
    return core.bare(Layer, forward, backward, init, input_grad=input_grad, advance=advance)
