"""Pictures of training and of backward passes, by matplotlib: `pip install 'lincoln_fn[plot]'`.

Each function draws on the axes that it is given, or on those of a new figure, and returns them:

    axes = lf.plots.learning_curve(history)
    axes.figure.savefig("curve.png")

A notebook shows the figure if the axes are the value of a cell. Elsewhere nothing is shown.
Pyplot's figures do not change. Matplotlib is imported by the first picture, so this module can be
imported without it.
"""

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.plots.attribution import effects as effects
from lincoln_fn.plots.attribution import relevance as relevance
from lincoln_fn.plots.curves import learning_curve as learning_curve
from lincoln_fn.plots.derivatives import jacobian as jacobian
from lincoln_fn.plots.derivatives import layer as layer
from lincoln_fn.plots.gradients import gradient_norms as gradient_norms
from lincoln_fn.plots.graph import graph as graph
from lincoln_fn.plots.histograms import activations as activations
from lincoln_fn.plots.images import filters as filters
from lincoln_fn.plots.matrix import confusion_matrix as confusion_matrix
from lincoln_fn.plots.timeline import timeline as timeline
from lincoln_fn.plots.walk import flow as flow

_export_all(globals())
