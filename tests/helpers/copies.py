"""Copies by pickle and deepcopy."""

import copy
import pickle

from helpers.compare import same_bits

PROTOCOLS = (2, pickle.HIGHEST_PROTOCOL)  # which objects can tell apart


def copies_of(thing):
    """Make copies by each protocol of pickle, and by `copy.deepcopy`."""
    for protocol in PROTOCOLS:
        yield f"protocol {protocol}", pickle.loads(pickle.dumps(thing, protocol))
    yield "deepcopy", copy.deepcopy(thing)


def assert_copies(thing, results):
    """Hold each copy to the repr of the thing, and a copy of a copy to what it computes.

    Args:
        results: thing -> a tree of all that it computes.
    """
    for way, made in copies_of(thing):
        assert made is not thing, way
        assert repr(made) == repr(thing), way
    made = thing
    for protocol in PROTOCOLS:
        made = pickle.loads(pickle.dumps(made, protocol))
    # What any of the ways loses, the last copy lacks.
    assert same_bits(results(copy.deepcopy(made)), results(thing)), "one way after the other"


def affine(params, x):
    return params[0] * x
