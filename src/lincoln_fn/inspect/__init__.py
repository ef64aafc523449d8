"""Look inside a network: outputs and gradients of its layers, patches of them, and angles."""

from lincoln_fn.faces import face

face(__name__)
