"""Checks of gradients, for your own layers and losses and for the library's, and grades."""

from lincoln_fn.faces import face

face(__name__)
