"""Sign-symmetric feedback: the error goes back through matrices that share only W's signs.

Derivation. The feedback is B = M sign(W), element by element, with magnitudes M >= 0:

    dx = g B^T
    dW = x^T g

    uniform (uSF):       M = s, the same number for all elements
    batchwise (brSF):    M is drawn anew for each batch, uniformly from 0 to sqrt(3) s
    fixed (frSF):        M is the absolute value of a matrix that is drawn once, as W was

s is the root mean square of W at first. So B has the scale of the first W in each variant: the
square of a number that is uniform from 0 to sqrt(3) s has the mean s^2.
"""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Cache, Key, Layer, State, checked, keys, record
from lincoln_fn.rules.feedback import Matrices, no_backward, with_feedback
from lincoln_fn.rules.feedback_alignment import Fixed
from lincoln_fn.rules.matrices import Selector, has_matrices

Variant: TypeAlias = Literal["uniform", "batchwise", "fixed"]


@record
class Scales(State):
    """The scale s of each matrix, and the key of the next magnitudes."""

    scales: tuple[Tensor, ...]
    key: Key | None


def _init_uniform(key: Key, x: tuple[Matrices, Matrices]) -> Scales:
    return Scales(tuple(w.square().mean().sqrt() for w in x[0]), None)


def _uniform(params: Scales, x: Matrices) -> tuple[Matrices, None]:
    """Compute B = s sign(W)."""
    return tuple(s * w.sign() for s, w in zip(params.scales, x, strict=True)), None


def _init_batchwise(key: Key, x: tuple[Matrices, Matrices]) -> Scales:
    return Scales(_init_uniform(key, x).scales, key)


def _batchwise(params: Scales, x: Matrices) -> tuple[Matrices, None]:
    """Compute B = M sign(W), with M uniform from 0 to sqrt(3) s."""
    assert params.key is not None
    drawn = (
        keys.uniform(params.key.fold_in(i + 1), tuple(w.shape), dtype=w.dtype)
        for i, w in enumerate(x)
    )
    trios = zip(drawn, params.scales, x, strict=True)
    return tuple(math.sqrt(3) * s * u * w.sign() for u, s, w in trios), None


def _advance(params: Scales, cache: Cache) -> Scales:
    assert params.key is not None
    return Scales(params.scales, params.key.fold_in(0))


def _init_fixed(key: Key, x: tuple[Matrices, Matrices]) -> Fixed:
    return Fixed(tuple(map(torch.abs, x[1])))


def _fixed(params: Fixed, x: Matrices) -> tuple[Matrices, None]:
    """Compute B = M sign(W)."""
    return tuple(m * w.sign() for m, w in zip(params.matrices, x, strict=True)), None


_FEEDBACK: Final[dict[str, Layer]] = {
    "uniform": Layer("uniform()", _uniform, no_backward, _init_uniform),
    "batchwise": Layer("batchwise()", _batchwise, no_backward, _init_batchwise, advance=_advance),
    "fixed": Layer("fixed()", _fixed, no_backward, _init_fixed),
}


@checked
def sign_symmetric(
    net: Layer, *, variant: Variant = "uniform", layers: Selector = has_matrices
) -> Layer:
    """Send g back through matrices that share only the weights' signs: dx = g (M sign(W))^T.

    Args:
        variant: the magnitudes M, all of one scale. "uniform" (uSF): the root mean square of the
            first W; "batchwise" (brSF): drawn anew for each batch; "fixed" (frSF): drawn once.
        layers: whether a layer gets feedback, as in `feedback_alignment`.

    Returns:
        The network. The params of such a layer are `FeedbackParams(params, feedback)`; the feedback
        is a `State`, which holds the scale, its key, or M.

    Source:
        Liao, Leibo and Poggio, "How Important is Weight Symmetry in Backpropagation?", AAAI 2016;
        with the scale of Xiao, Chen, Liao and Poggio, "Biologically-Plausible Learning Algorithms
        Can Scale to Large Datasets", ICLR 2019, as BioTorch has it (Sanfiz and Akrout, 2021).

    Example:
        >>> net, x = sign_symmetric(lf.dense(2)), torch.zeros(1, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> dx = net.input_grad(params, x, torch.tensor([[1.0, 0.0]]))
        >>> (dx.sign() == params.params.weight[:, 0].sign()).all()
        tensor(True)
    """
    return with_feedback(sign_symmetric, net, _FEEDBACK[variant], layers, variant=variant)
