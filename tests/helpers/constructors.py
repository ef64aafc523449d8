"""Every constructor."""

import inspect

import lincoln_fn as lf
from helpers.names import names_of

# What a constructor declares to return. `fast` and `map_layers` take a network, and change it.
MADE = (
    *("Layer", "Loss", "Optimizer", "Transform", "Schedule", "Initializer", "Metric"),
    "RopeScaling",
)
OTHERS = ("fast", "map_layers")
HOMES = (lf, lf.losses, lf.optim, lf.schedules, lf.initializers, lf.metrics, lf.rope_scaling)
CONSTRUCTORS = {
    f"{home.__name__.removeprefix('lincoln_fn').removeprefix('.')}.{name}".removeprefix("."): made
    for home in HOMES
    for name, made in names_of(home).items()
    if inspect.isfunction(made) and not name.startswith("_") and name not in OTHERS
    if made.__annotations__.get("return") in MADE or made is lf.initializers.gain
}
