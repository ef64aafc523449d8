"""Layers made of layers.

Each combinator returns a `Layer` with all seven functions. Its parameters, caches and gradients are
made of those of its parts. An error in a part names its position: "serial[2] dense(10): ...".
"""

from lincoln_fn.faces import face

face(__name__)
