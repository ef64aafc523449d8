from lincoln_fn.plots.curves import learning_curve as learning_curve
from lincoln_fn.plots.derivatives import jacobian as jacobian, layer as layer
from lincoln_fn.plots.graph import graph as graph
from lincoln_fn.plots.histograms import activations as activations
from lincoln_fn.plots.images import (
    effects as effects, filters as filters, relevance as relevance,
)
from lincoln_fn.plots.matrix import confusion_matrix as confusion_matrix
from lincoln_fn.plots.norms import flow as flow, gradient_norms as gradient_norms
from lincoln_fn.plots.timeline import timeline as timeline
