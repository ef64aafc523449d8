"""Losses, each a value with a forward and a backward: `nll(reduction="sum")`.

Each loss has its own file: derivation, `forward` and `backward` of values, then the constructor.
"""

from lincoln_fn.faces import face

face(__name__, explains=True)
