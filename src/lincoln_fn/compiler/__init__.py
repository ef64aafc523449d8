"""Compiled and exported steps and predictions: one graph, for Inductor or for a file."""

from lincoln_fn.faces import face

face(__name__)
