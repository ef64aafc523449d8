"""How a wrong argument is told: errors, checks of arguments and shapes, suggestions."""

from lincoln_fn.errors.errors import LayerError, NonFiniteError

__all__ = ["LayerError", "NonFiniteError"]
