"""Fine-tuning: transformations of a trained network and its params.

    net, params = lf.lora(net, params, key)         low-rank updates beside frozen layers
    net, params = lf.dora(net, params, key)         and the columns' lengths
    net, params = lf.quantize(net, params)          dense layers of 4 or 8 bits, not trained
    net, params = lf.merge_lora(net, params)        back to the layers that there were

Each takes a network and its params, and returns both.
"""

from lincoln_fn.finetune.dora import dora
from lincoln_fn.finetune.lora import lora
from lincoln_fn.finetune.merge_lora import merge_lora
from lincoln_fn.finetune.quantize import quantize

__all__ = ["dora", "lora", "merge_lora", "quantize"]
