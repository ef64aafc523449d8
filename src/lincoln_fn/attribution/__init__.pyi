from lincoln_fn.attribution import composites as composites, kinds as kinds, rules as rules
from lincoln_fn.attribution.attribution_patching import attribution_patching as attribution_patching
from lincoln_fn.attribution.composites import (
    Composite as Composite, composite as composite, epsilon_alpha2_beta1 as epsilon_alpha2_beta1,
    epsilon_alpha2_beta1_flat as epsilon_alpha2_beta1_flat, epsilon_gamma_box as epsilon_gamma_box,
    epsilon_plus as epsilon_plus, epsilon_plus_flat as epsilon_plus_flat,
)
from lincoln_fn.attribution.edge_attribution_patching import (
    edge_attribution_patching as edge_attribution_patching,
)
from lincoln_fn.attribution.grad_cam import *
from lincoln_fn.attribution.gradient import (
    gradient as gradient, gradient_times_input as gradient_times_input,
    integrated_gradients as integrated_gradients, smooth_grad as smooth_grad,
)
from lincoln_fn.attribution.lrp import (
    Relevance as Relevance, conservation as conservation, lrp as lrp,
)
from lincoln_fn.attribution.merge_batch_norm import merge_batch_norm as merge_batch_norm
