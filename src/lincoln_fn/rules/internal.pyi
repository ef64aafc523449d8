from lincoln_fn.rules.backpropagation import with_true_gradient as with_true_gradient
from lincoln_fn.rules.feedback import no_backward as no_backward
from lincoln_fn.rules.relp import constant_rstd as constant_rstd
