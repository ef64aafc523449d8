"""Attribution: how much each element of an input, or of any layer's output, accounts for an output.

Each method is a pure function of a network, its params, an input and the output to explain:

    attribution = lf.attribution.gradient_times_input(net, params, x, target)
    relevance = lf.attribution.lrp(net, params, x, target, rules=lf.attribution.epsilon_plus())
"""

from lincoln_fn.attribution import composites as composites
from lincoln_fn.attribution import kinds as kinds
from lincoln_fn.attribution import rules as rules
from lincoln_fn.attribution.attribution_patching import (
    attribution_patching as attribution_patching,
)
from lincoln_fn.attribution.composites import Composite as Composite
from lincoln_fn.attribution.composites import composite as composite
from lincoln_fn.attribution.composites import epsilon_alpha2_beta1 as epsilon_alpha2_beta1
from lincoln_fn.attribution.composites import (
    epsilon_alpha2_beta1_flat as epsilon_alpha2_beta1_flat,
)
from lincoln_fn.attribution.composites import epsilon_gamma_box as epsilon_gamma_box
from lincoln_fn.attribution.composites import epsilon_plus as epsilon_plus
from lincoln_fn.attribution.composites import epsilon_plus_flat as epsilon_plus_flat
from lincoln_fn.attribution.conservation import conservation as conservation
from lincoln_fn.attribution.grad_cam import grad_cam as grad_cam
from lincoln_fn.attribution.gradient import gradient as gradient
from lincoln_fn.attribution.gradient import gradient_times_input as gradient_times_input
from lincoln_fn.attribution.guided_backpropagation import deconvolution as deconvolution
from lincoln_fn.attribution.guided_backpropagation import (
    guided_backpropagation as guided_backpropagation,
)
from lincoln_fn.attribution.integrated_gradients import (
    integrated_gradients as integrated_gradients,
)
from lincoln_fn.attribution.lrp import Relevance as Relevance
from lincoln_fn.attribution.lrp import lrp as lrp
from lincoln_fn.attribution.merge_batch_norm import merge_batch_norm as merge_batch_norm
from lincoln_fn.attribution.smooth_grad import smooth_grad as smooth_grad
