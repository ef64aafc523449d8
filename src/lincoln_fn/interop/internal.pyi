from lincoln_fn.interop.names import BLOCKS as BLOCKS
