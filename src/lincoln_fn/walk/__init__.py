"""Compositions as two walks: how parts are connected, and what is done at each part.

A combinator is two loops, there and back. What is done at a part is an argument, the visitor:

    composition(label, parts, there, back)          a layer made of layers
    there(visit, net, params, x)                    a visitor of your own, from input to output
    back(visit, net, params, cache, g)              and from output to input
    forward_to_train(net, params, x)                y, and the caches that a training step reads
    gradients(net, params, cache, g)                dparams
    cotangents(net, params, cache, g)               dx now, and every part's g
    grads_at(net, params, sites)                    dparams later
"""

from lincoln_fn.faces import face

face(__name__)
