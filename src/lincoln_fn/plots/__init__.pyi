from lincoln_fn.plots.by_layer import *
from lincoln_fn.plots.derivatives import jacobian as jacobian, layer as layer
from lincoln_fn.plots.images import effects as effects, filters as filters, relevance as relevance
from lincoln_fn.plots.results import (
    confusion_matrix as confusion_matrix, learning_curve as learning_curve,
)
