from lincoln_fn.rules.backpropagation import with_true_gradient as with_true_gradient
from lincoln_fn.rules.feedback import no_backward as no_backward
