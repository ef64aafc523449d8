"""To and from torch and numpy.

    layer, params = from_torch(module)                     a torch.nn module as a layer
    named  = to_state_dict(layer, params)                  torch's names and layouts
    params = from_state_dict(layer, named)                 and back
    module = to_torch(layer, params)                       a torch.nn.Module with our backward
    layer  = from_function(f)                              a layer with autograd's backward
    layer, params = from_module(module)                    the same of a module
    net, params, config = from_pretrained(folder)          a model of Hugging Face's library
    save_pretrained(net, params, config, folder)           and back
    net, params, config = from_gguf(path)                  one of llama.cpp
    net    = from_config(config)                           its network, without weights
    arrays = to_numpy(params); params = from_numpy(arrays)
    layer  = transformer_encoder(*blocks, norm=norm)       torch's stacks of transformer blocks

One table, in `names`, has torch's names and layouts for the parameters of each layer. All
conversions use it, so they cannot disagree.
"""

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.interop.arrays import from_numpy as from_numpy
from lincoln_fn.interop.arrays import to_numpy as to_numpy
from lincoln_fn.interop.function import from_function as from_function
from lincoln_fn.interop.function import from_module as from_module
from lincoln_fn.interop.gguf_file import from_gguf as from_gguf
from lincoln_fn.interop.module import LayerModule as LayerModule
from lincoln_fn.interop.module import to_torch as to_torch
from lincoln_fn.interop.pretrained import from_config as from_config
from lincoln_fn.interop.pretrained import from_pretrained as from_pretrained
from lincoln_fn.interop.pretrained import save_pretrained as save_pretrained
from lincoln_fn.interop.state_dict import from_state_dict as from_state_dict
from lincoln_fn.interop.to_state_dict import to_state_dict as to_state_dict
from lincoln_fn.interop.torch_nn import from_torch as from_torch
from lincoln_fn.interop.transformers import transformer as transformer
from lincoln_fn.interop.transformers import transformer_decoder as transformer_decoder
from lincoln_fn.interop.transformers import transformer_encoder as transformer_encoder

_export_all(globals())
