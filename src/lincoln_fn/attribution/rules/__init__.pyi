from lincoln_fn.attribution.rules.any_layer import (
    Rule as Rule, Use as Use, gradient as gradient, norm as norm, nothing as nothing,
    pass_ as pass_, signal as signal, split as split,
)
from lincoln_fn.attribution.rules.linear import *
from lincoln_fn.attribution.rules.recurrent import recurrent as recurrent
from lincoln_fn.attribution.rules.transformer import *
