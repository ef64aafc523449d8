"""Feedback alignment: the error goes back through fixed random matrices.

Derivation. Backpropagation computes dx = g W^T. Here B, of W's shape, is drawn once and is never
trained:

    dx = g B^T
    dW = x^T g

For recurrent layers, g goes back through time by B, too. In attention, each projection has its own
B. During training W comes to agree with B, and dx with the true gradient to within 90 degrees.
"""

from __future__ import annotations

from functools import partial

from lincoln_fn.core import Key, Layer, State, checked, record
from lincoln_fn.initializers import Initializer
from lincoln_fn.rules.feedback import Matrices, draw_matrices, no_backward, with_feedback
from lincoln_fn.rules.matrices import Selector, has_matrices


@record
class Fixed(State):
    """The matrices B, one for each of W, in their order."""

    matrices: Matrices


def _init(key: Key, x: tuple[Matrices, Matrices], *, feedback_init: Initializer | None) -> Fixed:
    """Draw B."""
    return Fixed(draw_matrices(key, x, feedback_init))


def _forward(params: Fixed, x: Matrices) -> tuple[Matrices, None]:
    """Return B."""
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
    feedback = Layer("fixed()", _forward, no_backward, init)
    return with_feedback(feedback_alignment, net, feedback, layers, feedback_init=feedback_init)
