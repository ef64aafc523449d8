from lincoln_fn.inspect.patching import outputs as outputs, patched as patched
from lincoln_fn.inspect.records import (
    LayerTrace as LayerTrace, NonFinite as NonFinite, Trace as Trace,
)
from lincoln_fn.inspect.trace import trace as trace
from lincoln_fn.rules.backpropagation import alignment as alignment
