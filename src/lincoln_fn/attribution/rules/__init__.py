"""The rules of layer-wise relevance propagation: how a layer's output gives relevance to its input.

Each is a function that makes a `Rule`. `any_layer.py` says what a rule is, for one of your own.
"""

from lincoln_fn.faces import face

face(__name__)
