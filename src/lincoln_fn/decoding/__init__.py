"""Text: a network run position by position, and the stream of tokens that it writes."""

from lincoln_fn.faces import face

face(__name__)
