"""What the files of this room and other rooms use of it, and users do not."""

from lincoln_fn.faces import face

face(__name__)
