"""Pictures of training and of backward passes, by matplotlib: `pip install 'lincoln_fn[plot]'`.

Each function draws on the axes that it is given, or on those of a new figure, and returns them:

    axes = lf.plots.learning_curve(history)
    axes.figure.savefig("curve.png")

A notebook shows the figure if the axes are the value of a cell. Elsewhere nothing is shown.
Pyplot's figures do not change. Matplotlib is imported by the first picture, so this module can be
imported without it.
"""

from lincoln_fn.plots.attribution import effects, relevance
from lincoln_fn.plots.curves import learning_curve
from lincoln_fn.plots.derivatives import jacobian, layer
from lincoln_fn.plots.gradients import gradient_norms
from lincoln_fn.plots.graph import graph
from lincoln_fn.plots.histograms import activations
from lincoln_fn.plots.images import filters
from lincoln_fn.plots.matrix import confusion_matrix
from lincoln_fn.plots.timeline import timeline
from lincoln_fn.plots.walk import flow

__all__ = [
    "activations",
    "confusion_matrix",
    "effects",
    "filters",
    "flow",
    "gradient_norms",
    "graph",
    "jacobian",
    "layer",
    "learning_curve",
    "relevance",
    "timeline",
]
