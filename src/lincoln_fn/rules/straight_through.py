"""A layer whose backward passes g on unchanged.

Derivation. A step such as rounding has the derivative 0 almost everywhere, so nothing before it
would learn. The straight-through estimator takes it for 1, and leaves the layer's dparams alone:

    dx = g
"""

from __future__ import annotations

from lincoln_fn.core import Arrays, Cache, Layer, Params, checked
from lincoln_fn.walk.internal import Record, VisitBack, around


def back(visit: VisitBack, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    """Compute the layer's dparams, and return g as dx."""
    _, record = visit(0, params, cache, g)
    return g, record


@checked
def straight_through(layer: Layer) -> Layer:
    """Pass g through a layer unchanged: dx = g.

    Args:
        layer: whose y has the shape of its x, such as rounding, or a ReLU whose units must not die.

    Source:
        Bengio, Leonard and Courville, "Estimating or Propagating Gradients Through Stochastic
        Neurons for Conditional Computation", 2013.

    Example:
        >>> net, x = straight_through(lf.relu()), torch.tensor([-2.0, 3.0])
        >>> net.input_grad((), net.forward((), x)[1], torch.tensor([5.0, 7.0]))
        tensor([5., 7.])
    """
    return around(straight_through, layer, back=back, mask="part")
