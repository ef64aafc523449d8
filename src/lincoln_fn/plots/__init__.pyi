from lincoln_fn.plots.attribution import effects as effects, relevance as relevance
from lincoln_fn.plots.curves import learning_curve as learning_curve
from lincoln_fn.plots.derivatives import jacobian as jacobian, layer as layer
from lincoln_fn.plots.gradients import gradient_norms as gradient_norms
from lincoln_fn.plots.graph import graph as graph
from lincoln_fn.plots.histograms import activations as activations
from lincoln_fn.plots.images import filters as filters
from lincoln_fn.plots.matrix import confusion_matrix as confusion_matrix
from lincoln_fn.plots.timeline import timeline as timeline
from lincoln_fn.plots.walk import flow as flow
