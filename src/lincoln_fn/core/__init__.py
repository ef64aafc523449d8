"""What every room builds on: records, trees, keys and the layer protocol."""

from lincoln_fn.faces import face

face(__name__)
