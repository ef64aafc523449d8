"""Compositions as two walks: how parts are connected, and what is done at each part.

A combinator is two loops, there and back. What is done at a part is an argument, the visitor:

    composition(label, parts, there, back)          a layer made of layers
    there(visit, net, params, x)                    a visitor of your own, from input to output
    back(visit, net, params, cache, g)              and from output to input
    forward_to_train(net, params, x)                y, and the caches that a training step reads
    gradients(net, params, cache, g)                dparams
    cotangents(net, params, cache, g)               dx now, and every part's g
    grads_at(net, params, sites)                    dparams later

`forward`, `predict` and `init` of a composition are `there` with three visitors; `backward`,
`input_grad` and `grads` are `back` with three others.
"""

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.walk.arrangement import ALL_BUT_LAST as ALL_BUT_LAST
from lincoln_fn.walk.arrangement import ENTRIES as ENTRIES
from lincoln_fn.walk.arrangement import ITS_PART as ITS_PART
from lincoln_fn.walk.arrangement import Arrangement as Arrangement
from lincoln_fn.walk.arrangement import fields as fields
from lincoln_fn.walk.composition import Composition as Composition
from lincoln_fn.walk.composition import composition as composition
from lincoln_fn.walk.map_params import map_params as map_params
from lincoln_fn.walk.parts import check_entries as check_entries
from lincoln_fn.walk.parts import is_trained as is_trained
from lincoln_fn.walk.sites import Site as Site
from lincoln_fn.walk.sites import cotangents as cotangents
from lincoln_fn.walk.sites import grads_at as grads_at
from lincoln_fn.walk.visits import VisitBack as VisitBack
from lincoln_fn.walk.visits import VisitThere as VisitThere
from lincoln_fn.walk.walks import back as back
from lincoln_fn.walk.walks import forward_to_train as forward_to_train
from lincoln_fn.walk.walks import gradients as gradients
from lincoln_fn.walk.walks import there as there

_export_all(globals())
