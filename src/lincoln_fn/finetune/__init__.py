"""Fine-tuning: transformations of a trained network and its params.

    net, params = lf.lora(net, params, key)         low-rank updates beside frozen layers
    net, params = lf.dora(net, params, key)         and the columns' lengths
    net, params = lf.quantize(net, params)          dense layers of 4 or 8 bits, not trained
    net, params = lf.merge_lora(net, params)        back to the layers that there were

Each takes a network and its params, and returns both.
"""

from lincoln_fn.faces import face

face(__name__)
