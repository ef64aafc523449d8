from lincoln_fn.interop.state_dict import (
    from_numpy as from_numpy, from_state_dict as from_state_dict, to_numpy as to_numpy,
)
from lincoln_fn.interop.function import from_function as from_function, from_module as from_module
from lincoln_fn.interop.gguf_file import from_gguf as from_gguf
from lincoln_fn.interop.module import LayerModule as LayerModule, to_torch as to_torch
from lincoln_fn.interop.pretrained import (
    from_config as from_config, from_pretrained as from_pretrained,
    save_pretrained as save_pretrained,
)
from lincoln_fn.interop.torch_nn import from_torch as from_torch, to_state_dict as to_state_dict
from lincoln_fn.interop.transformers import (
    transformer as transformer, transformer_decoder as transformer_decoder,
    transformer_encoder as transformer_encoder,
)
