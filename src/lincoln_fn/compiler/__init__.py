"""Compiled and exported steps and predictions: one graph, for Inductor or for a file."""

from lincoln_fn.compiler.compile import compile  # noqa: A004  # the name that torch's users expect
from lincoln_fn.compiler.export import export, export_step

__all__ = ["compile", "export", "export_step"]
