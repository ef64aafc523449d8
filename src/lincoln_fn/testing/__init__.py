"""Checks of gradients, for your own layers and losses and for the library's."""

from lincoln_fn.testing.check import check_layer, check_loss
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.report import Finding, Report

__all__ = ["Finding", "GradientError", "Report", "check_layer", "check_loss"]
