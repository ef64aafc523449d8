"""Training: the data, the step, and the loop."""

from lincoln_fn.faces import face

face(__name__)
