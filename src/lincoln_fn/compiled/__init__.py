"""Compiled and exported steps: a training step as one graph, for Inductor or for a file."""

from lincoln_fn.compiled.compile import compile  # noqa: A004  # the name that torch's users expect
from lincoln_fn.compiled.export import export_step

__all__ = ["compile", "export_step"]
