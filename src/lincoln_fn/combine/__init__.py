"""Layers made of layers. An error in a part names its position: "serial[2] dense(10): ..."."""

from lincoln_fn.faces import face

face(__name__)
