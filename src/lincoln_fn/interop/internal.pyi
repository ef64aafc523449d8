from lincoln_fn.interop.blocks import PLACES as PLACES
