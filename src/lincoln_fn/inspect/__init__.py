"""Look inside a network: outputs and gradients of its layers, patches of them, and angles."""

from lincoln_fn.inspect.patching import outputs, patched
from lincoln_fn.inspect.records import LayerTrace, NonFinite, Trace
from lincoln_fn.inspect.trace import trace
from lincoln_fn.rules.alignment import alignment

__all__ = ["LayerTrace", "NonFinite", "Trace", "alignment", "outputs", "patched", "trace"]
