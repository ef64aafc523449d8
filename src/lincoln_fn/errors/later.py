"""What is loaded only when an error is made: checks that say what is wrong, and what to write."""

from lincoln_fn.faces import face

face(__name__)
