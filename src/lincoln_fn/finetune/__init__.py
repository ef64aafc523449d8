"""Fine-tuning: each function takes a trained network and its params, and returns both, changed."""

from lincoln_fn.faces import face

face(__name__)
