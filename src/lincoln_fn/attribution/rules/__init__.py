"""The rules of layer-wise relevance propagation: how a layer's output gives relevance to its input.

Each is a function that makes a `Rule`. `rule.py` says what a rule is, for one of your own.
"""

from lincoln_fn.attribution.rules.any_layer import gradient as gradient
from lincoln_fn.attribution.rules.any_layer import norm as norm
from lincoln_fn.attribution.rules.any_layer import nothing as nothing
from lincoln_fn.attribution.rules.any_layer import pass_ as pass_
from lincoln_fn.attribution.rules.any_layer import signal as signal
from lincoln_fn.attribution.rules.any_layer import split as split
from lincoln_fn.attribution.rules.attention import attention as attention
from lincoln_fn.attribution.rules.first_layer import flat as flat
from lincoln_fn.attribution.rules.first_layer import w_square as w_square
from lincoln_fn.attribution.rules.first_layer import z_box as z_box
from lincoln_fn.attribution.rules.linear import alpha_beta as alpha_beta
from lincoln_fn.attribution.rules.linear import epsilon as epsilon
from lincoln_fn.attribution.rules.linear import gamma as gamma
from lincoln_fn.attribution.rules.linear import z_plus as z_plus
from lincoln_fn.attribution.rules.normalisation import constant_std as constant_std
from lincoln_fn.attribution.rules.recurrent import recurrent as recurrent
from lincoln_fn.attribution.rules.rule import Rule as Rule
from lincoln_fn.attribution.rules.rule import Use as Use
from lincoln_fn.core import export_all as _export_all

_export_all(globals())
