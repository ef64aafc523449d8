"""Compositions as two walks: how parts are connected, and what is done at each part.

A combinator is two loops, there and back. What is done at a part is an argument, the visitor:

    composition(label, parts, there, back)          a layer made of layers
    there(visit, net, params, x)                    a visitor of your own, from input to output
    back(visit, net, params, cache, g)              and from output to input
    forward_to_train(net, params, x)                y, and the caches that a training step reads
    gradients(net, params, cache, g)                dparams, and each cache freed when it was read
    cotangents(net, params, cache, g)               dx now, and every part's g
    grads_at(net, params, sites)                    dparams later

`forward`, `predict` and `init` of a composition are `there` with three visitors; `backward`,
`input_grad` and `grads` are `back` with three others.
"""

from lincoln_fn.walk.arrangement import ALL_BUT_LAST, ENTRIES, ITS_PART, Arrangement, fields
from lincoln_fn.walk.composition import Composition, composition
from lincoln_fn.walk.map_params import map_params
from lincoln_fn.walk.parts import check_entries, is_trained
from lincoln_fn.walk.sites import Site, cotangents, grads_at
from lincoln_fn.walk.training import forward_to_train, gradients
from lincoln_fn.walk.visits import VisitBack, VisitThere
from lincoln_fn.walk.walks import back, there

__all__ = [
    "ALL_BUT_LAST",
    "ENTRIES",
    "ITS_PART",
    "Arrangement",
    "Composition",
    "Site",
    "VisitBack",
    "VisitThere",
    "back",
    "check_entries",
    "composition",
    "cotangents",
    "fields",
    "forward_to_train",
    "gradients",
    "grads_at",
    "is_trained",
    "map_params",
    "there",
]
