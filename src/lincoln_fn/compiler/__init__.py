"""Compiled and exported steps: a training step as one graph, for Inductor or for a file."""

from lincoln_fn.compiler.compile import compile  # noqa: A004  # the name that torch's users expect
from lincoln_fn.compiler.export import export_step

__all__ = ["compile", "export_step"]
