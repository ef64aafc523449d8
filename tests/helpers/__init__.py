"""What several tests need. What most of them need is named here, too, and loaded when asked for."""

from importlib import import_module

HOMES = {
    "cases": "CASES FIRST",
    "cases.case": "Case cast first_run normal run uniform",
    "compare": "largest same_bits same_number same_statistics",
    "fast_layers": "VERSIONS",
    "given": "begun",
    "names": "names_of",
    "refusals": "assert_refused assert_says refused",
}


def __getattr__(name):
    for home, names in HOMES.items():
        if name in names.split():
            return getattr(import_module(f"helpers.{home}"), name)
    raise AttributeError(name)
