"""Compositions as two walks: how parts are connected, and what is done at each part.

A combinator is two loops, there and back. What is done at a part is an argument, the visitor.
"""

from lincoln_fn.faces import face

face(__name__)
