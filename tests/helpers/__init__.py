"""What several tests need. What most of them need is named here, too, and loaded when asked for."""

from importlib import import_module

HOMES = {
    "cases": "CASES FIRST",
    "cases.case": "Case cast first_run normal random_like run uniform",
    "children": "printed_by_child run_child",
    "compare": "largest same_bits same_number same_statistics",
    "compiling": "assert_compiles compiles compiles_in_full",
    "fast_layers": "VERSIONS",
    "graphs": "assert_same_after drawn targets trace traced",
    "names": "names_of",
    "own": "Operations layer_of twice",
    "refusals": "assert_refused assert_says error_of",
    "steps": "CE MSE SGD assert_same_steps begin copied taken",
}


def __getattr__(name):
    for home, names in HOMES.items():
        if name in names.split():
            return getattr(import_module(f"helpers.{home}"), name)
    raise AttributeError(name)
