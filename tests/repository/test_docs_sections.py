"""The sections of docstrings that a page makes of signatures."""

import ast
from pathlib import Path

import pytest
from sections import completed, facts_of

LAYER = """
@constructor
def elu(alpha: Positive = 1.0) -> Layer:
    return bare(Layer, forward, backward)
"""
OPTIMIZER = """
@constructor
def sgd(lr: LearningRate, *, maximize: bool = False) -> Optimizer:
    return leafwise(SgdState, rules)
"""
WALK = """
def gradients(net: Layer, params: Params, cache: Cache, g: Arrays, *, dx: bool = True) -> Params:
    return net.grads(params, cache, g)
"""
REFUSED = "from its functions, for params, x, a cache or g that do not fit, with the position."
CASES = {
    "a layer": (
        LAYER,
        "Bend.\n\nArgs:\n    alpha: a slope.\n\nExample:\n    >>> elu()",
        "Bend.\n\nArgs:\n    alpha: a slope.\n\nReturns:\n    The layer, without parameters.\n\n"
        "Raises:\n    LayerError: for an argument that is not of its type: `alpha` a finite number"
        f" above 0; {REFUSED}\n\nExample:\n    >>> elu()",
    ),
    "an optimizer": (
        OPTIMIZER,
        "Descend.",
        "Descend.\n\nArgs:\n    lr: the learning rate, at least 0, or a schedule.\n"
        "    maximize: whether to maximize the loss.\n\n"
        "Returns:\n    The optimizer, whose state is `SgdState`.\n\n"
        "Raises:\n    LayerError: for an argument that is not of its type; from `update`, for"
        " gradients that do not mirror the parameters.",
    ),
    "what is said stays, and the rest comes in the order of the signature": (
        WALK,
        "Compute.\n\nArgs:\n    params: which\n        are old.\n    dx: whether.\n\n"
        "Returns:\n    dparams.\n\nRaises:\n    ValueError: often.",
        "Compute.\n\nArgs:\n    net: the network.\n    params: which\n        are old.\n"
        "    cache: what `forward` returned beside y.\n    g: dL/dy.\n    dx: whether.\n\n"
        "Returns:\n    dparams.\n\nRaises:\n    ValueError: often.\n"
        "    LayerError: as the functions of the network do.",
    ),
    "what is neither said nor known is of its type": (
        "def flip(alpha: Positive, way: Way, step: int) -> Rule: ...",
        "Flip by step.",
        "Flip by step.\n\nArgs:\n    alpha: a finite number above 0.\n    way: `Way`.\n\n"
        "Returns:\n    The rule.",
    ),
    "a sibling's docstring": (LAYER, "As `elu`.", "As `elu`."),
}


@pytest.mark.parametrize("case", CASES)
def test_a_page_adds_what_the_signature_says(case):
    code, docstring, expected = CASES[case]
    facts = facts_of(ast.parse(code).body[0], Path(__file__))
    assert completed(docstring, facts) == expected
    assert completed(expected, facts) == expected
