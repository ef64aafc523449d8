"""Random layers: each constructor of the table of cases, with arguments that its cases have.

What is drawn may not fit x: then the layer refuses it, and another is drawn. A layer of several
inputs reads what dense layers make of x.
"""

import inspect
import re
from collections import defaultdict

import torch

import lincoln_fn as lf
from helpers import cases as table
from helpers.fuzzing.draws import chance, divisor, size

# By family, so that the many activations are not most of what is drawn.
WEIGHTS = {
    "basic": 4, "activations": 5, "arithmetic": 2, "convolution": 6, "normalisation": 4,
    "dropout": 1, "embedding": 1, "pooling": 4, "recurrent": 3, "linear_recurrence": 1, "shape": 3,
    "attention": 3, "combinators": 1,
}  # fmt: skip
# Arguments that are drawn anew: numbers of features, and what divides an axis of x.
SIZES = {
    "n_out", "out_channels", "out_features", "hidden_size", "intermediate_size", "dim_feedforward",
}  # fmt: skip
DIVIDE = {"num_heads": -1, "groups": 1, "num_groups": 1}
# Combinators, which networks.py draws, by the arguments that are their parts; and what rounding
# decides.
PARTS = {"layers", "layer", "field", "cell", "blocks", "net", "function", "router"}
UNSTABLE = ("vector_quantize",)


def found(family):
    """Give the cases of a family's single layers by constructor."""
    cases = defaultdict(list)
    for case in getattr(table, family).CASES:
        spec, entries = case.layer.spec, case.x if isinstance(case.x, tuple) else (case.x,)
        is_combinator = case.layer.composition is not None and PARTS & spec.arguments.keys()
        reads_floats = all(isinstance(x, torch.Tensor) and x.is_floating_point() for x in entries)
        if reads_floats and not is_combinator and spec.of.__name__ not in UNSTABLE:
            cases[spec.of.__name__].append(case)
    return cases


FAMILIES = {family: found(family) for family in WEIGHTS}
BY_NAME = {name: cases for family in FAMILIES.values() for name, cases in family.items()}


def single(rng, x):
    """Draw a single layer, which may take x."""
    (family,) = rng.choices([*WEIGHTS], [*WEIGHTS.values()])
    return named(rng, rng.choice([*FAMILIES[family]]), x)


def named(rng, name, x):
    """Draw a layer of a constructor, which may take x."""
    axes = re.search(r"(\d)d$", name)
    if axes and int(axes[1]) + 2 != x.ndim:
        raise ValueError("as many axes as the layer's without a batch")
    case = rng.choice(BY_NAME[name])
    layer = varied(rng, case.layer.spec, BY_NAME[name], x)
    if isinstance(case.x, torch.Tensor):
        return layer
    parts = (lf.dense(entry.shape[-1]) for entry in case.x)
    above_0 = (lf.softplus() if (entry > 0).all() else lf.identity() for entry in case.x)
    return lf.serial(fork(*map(lf.serial, parts, above_0)), layer)


def varied(rng, spec, cases, x):
    """Make a layer as a case's, with some arguments of others, and with other sizes."""
    arguments = {
        name: rng.choice(cases).layer.spec[name] if chance(rng, 0.3) else value
        for name, value in spec.arguments.items()
    }
    for name, axis in DIVIDE.items():
        if name in arguments and axis < x.ndim and (name != "groups" or chance(rng, 0.3)):
            arguments[name] = divisor(rng, x.shape[axis])
    for name in SIZES & arguments.keys():
        groups = arguments.get("groups", 1)
        arguments[name] = groups * max(size(rng) // groups, 1)
    bound = inspect.BoundArguments(inspect.signature(spec.of), arguments)
    return spec.of(*bound.args, **bound.kwargs)


def fork(*parts):
    """Give each part the same input, and their outputs as a tuple."""
    return lf.branch(*parts, merge=lf.identity())
