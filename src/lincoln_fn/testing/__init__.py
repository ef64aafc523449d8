"""Checks of gradients, for your own layers and losses and for the library's."""

from lincoln_fn.testing.check import check_layer, check_loss
from lincoln_fn.testing.diagnosis import GradientError

__all__ = ["GradientError", "check_layer", "check_loss"]
