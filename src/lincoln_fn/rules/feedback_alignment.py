"""Feedback by other matrices than the weights: random, sign-symmetric, or trained (Kolen-Pollack).

Derivation. Backpropagation computes dx = g W^T. Here B has W's shape, and

    dx = g B^T
    dW = x^T g

For recurrent layers, g goes back through time by B, too. In attention, each projection has its own.

In feedback alignment, B is drawn once and is never trained. During training W comes to agree with
B, and dx with the true gradient to within 90 degrees.

Sign-symmetric feedback is B = M sign(W), element by element, with magnitudes M >= 0:

    uniform (uSF):       M = s, the same number for all elements
    batchwise (brSF):    M is drawn anew for each batch, uniformly from 0 to sqrt(3) s
    fixed (frSF):        M is the absolute value of a matrix that is drawn once, as W was

s is the root mean square of W at first. So B has the scale of the first W in each variant: the
square of a number that is uniform from 0 to sqrt(3) s has the mean s^2.

In Kolen-Pollack learning, B is drawn by another key and trained by dB = dW. With plain SGD of
learning rate r and weight decay d, both matrices take the same step, and their difference shrinks
by the same factor in each:

    W' = (1 - r d) W - r dW
    B' = (1 - r d) B - r dB
    W' - B' = (1 - r d) (W - B)

So B becomes W, and the gradient the true one. Without weight decay the difference stays.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Cache, Key, Layer, State, checked, keys, record
from lincoln_fn.initializers import Initializer
from lincoln_fn.rules.feedback import Matrices, draw_matrices, no_backward, with_feedback
from lincoln_fn.rules.matrices import Selector, has_matrices


@record
class Fixed(State):
    """The matrices B, one for each of W, in their order."""

    matrices: Matrices


def _init(key: Key, x: tuple[Matrices, Matrices], *, feedback_init: Initializer | None) -> Fixed:
    return Fixed(draw_matrices(key, x, feedback_init))


def _forward_fixed(params: Fixed, x: Matrices) -> tuple[Matrices, None]:
    return params.matrices, None


@checked
def feedback_alignment(
    net: Layer, *, feedback_init: Initializer | None = None, layers: Selector = has_matrices
) -> Layer:
    """Send g back through fixed random matrices in place of the weights: dx = g B^T.

    dW = x^T g, and the gradients of biases and norms, are those of backpropagation for this g.

    Args:
        feedback_init: draws B, with the fans of the weights. None draws it as each layer draws its
            weights, by another key; weights that begin at 0 need one.
        layers: whether a layer gets feedback: a single layer, or attention as a whole. The default
            takes dense, convolutional, bilinear and recurrent layers, and attention.

    Returns:
        The network. The params of such a layer are `FeedbackParams(params, feedback)`; the feedback
        is a `State`, which holds B.

    Source:
        Lillicrap, Cownden, Tweed and Akerman, "Random synaptic feedback weights support error
        backpropagation for deep learning", Nature Communications, 2016.

    Example:
        >>> feedback_alignment(lf.serial(lf.dense(5), lf.relu(), lf.dense(2)))
        serial(feedback_alignment(dense(5)), relu(), feedback_alignment(dense(2)))
    """
    init = partial(_init, feedback_init=feedback_init)
    feedback = Layer("fixed()", _forward_fixed, no_backward, init)
    return with_feedback(feedback_alignment, net, feedback, layers, feedback_init=feedback_init)


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


def _forward_trained(params: Matrices, x: Matrices) -> tuple[Matrices, None]:
    return params, None


@checked
def kolen_pollack(
    net: Layer, *, feedback_init: Initializer | None = None, layers: Selector = has_matrices
) -> Layer:
    """Send g back through matrices B that learn like the weights: dx = g B^T, dB = dW.

    B becomes equal to W if the optimizer has weight decay, so take one that has. Its arguments are
    those of `feedback_alignment`; feedback_init draws the first B.

    Returns:
        The network. The params of such a layer are `FeedbackParams(params, feedback)`; the feedback
        is a tuple of trained matrices, one for each matrix of the layer.

    Source:
        Kolen and Pollack, "Backpropagation without weight transport", 1994; Akrout, Wilson,
        Humphreys, Lillicrap and Tweed, "Deep Learning without Weight Transport", NeurIPS 2019.

    Example:
        >>> net, x = kolen_pollack(lf.dense(2)), torch.ones(1, 3)
        >>> dparams = net.grads(net.init(lf.Key(0), x), x, torch.ones(1, 2))
        >>> (dparams.feedback[0] == dparams.params.weight).all()
        tensor(True)
    """
    init = partial(draw_matrices, initializer=feedback_init)
    feedback = Layer("trained()", _forward_trained, no_backward, init)
    return with_feedback(
        kolen_pollack, net, feedback, layers, is_trained=True, feedback_init=feedback_init
    )
