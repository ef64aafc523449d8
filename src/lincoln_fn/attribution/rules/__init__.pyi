from lincoln_fn.attribution.rules.any_layer import (
    Rule as Rule, Use as Use, alpha_beta as alpha_beta, epsilon as epsilon, flat as flat,
    gamma as gamma, gradient as gradient, norm as norm, nothing as nothing, pass_ as pass_,
    signal as signal, split as split, w_square as w_square, z_box as z_box, z_plus as z_plus,
)
from lincoln_fn.attribution.rules.recurrent import recurrent as recurrent
from lincoln_fn.attribution.rules.transformer import *
