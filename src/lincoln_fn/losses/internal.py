"""What other rooms use of this one, and users do not."""

from lincoln_fn.faces import face

face(__name__)
