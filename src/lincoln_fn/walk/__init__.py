"""Compositions as two walks: how parts are connected, and what is done at each part.

A combinator is two loops, there and back. What is done at a part is an argument, the visitor:

    composition(label, parts, there, back)          a layer made of layers
    there(visit, net, params, x)                    a visitor of your own, from input to output
    back(visit, net, params, cache, g)              and from output to input
    cotangents(net, params, cache, g)               dx now, and every part's g
    grads_at(net, params, sites)                    dparams later

`forward`, `predict` and `init` of a composition are `there` with three visitors; `backward`,
`input_grad` and `grads` are `back` with three others.
"""

from lincoln_fn.walk.composition import Composition, composition
from lincoln_fn.walk.parts import check_entries, is_trained
from lincoln_fn.walk.sites import Site, cotangents, grads_at
from lincoln_fn.walk.training import gradients
from lincoln_fn.walk.visits import VisitBack, VisitThere
from lincoln_fn.walk.walks import back, there

__all__ = [
    "Composition",
    "Site",
    "VisitBack",
    "VisitThere",
    "back",
    "check_entries",
    "composition",
    "cotangents",
    "gradients",
    "grads_at",
    "is_trained",
    "there",
]
