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

One table, in `names`, has torch's names and layouts, so conversions cannot disagree.
"""

from lincoln_fn.faces import face

face(__name__)
