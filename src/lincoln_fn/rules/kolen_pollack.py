"""Kolen-Pollack learning: the feedback matrices are trained by the same gradients as the weights.

Derivation. B, of W's shape, is drawn by another key, and

    dx = g B^T
    dW = x^T g
    dB = dW

With plain SGD of learning rate r and weight decay d, both matrices take the same step, and their
difference shrinks by the same factor in each:

    W' = (1 - r d) W - r dW
    B' = (1 - r d) B - r dB
    W' - B' = (1 - r d) (W - B)

So B becomes W, and the gradient the true one. Without weight decay the difference stays.
"""

from __future__ import annotations

from functools import partial

from lincoln_fn.core import Layer, checked
from lincoln_fn.initializers import Initializer
from lincoln_fn.rules.feedback import Matrices, draw_matrices, no_backward, with_feedback
from lincoln_fn.rules.matrices import Selector, has_matrices


def _forward(params: Matrices, x: Matrices) -> tuple[Matrices, None]:
    """Return B."""
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
    feedback = Layer("trained()", _forward, no_backward, init)
    return with_feedback(
        kolen_pollack, net, feedback, layers, is_trained=True, feedback_init=feedback_init
    )
