"""Known functions that a forward pass may compute, and the search for the one that it computes.

Autograd does not follow numpy. Where a reference agrees with such a forward pass, the reference
gives the right gradients, and its operations are those in which mistakes are looked for.
"""
