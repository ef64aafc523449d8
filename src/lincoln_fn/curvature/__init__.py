"""Second derivatives of a loss through the hand-written backward, and what is estimated by them."""

from lincoln_fn.faces import face

face(__name__)
