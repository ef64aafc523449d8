"""Quantities of the gradients of single examples, in one walk back; `net.grads` is their sum."""

from lincoln_fn.faces import face

face(__name__)
