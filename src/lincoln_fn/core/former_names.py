"""The modules' former names: users import by them, and what they have pickled refers to them."""

from __future__ import annotations

import sys
from typing import Final

FORMER_NAMES: Final = {
    "_bare_step": "training.bare_step",
    "_batches": "training.batch_checks",
    "_given_params": "training.initial_params",
    "_hints": "errors.annotations",
    "_ipython": "runtime.ipython",
    "_kinds": "errors.kinds",
    "_mends": "errors.suggestions",
    "_patches": "inspect.patches",
    "_slices": "optim.slices",
    "_spent": "training.donation",
    "_step_errors": "training.step_errors",
    "_table": "inspect.table",
    "_told": "training.step_value",
    "_torch_order": "errors.torch_order",
    "_transformed": "core.autodiff",
    "_waiting": "runtime.log_if_slow",
    "arguments": "errors.arguments",
    "constructors": "core.constructors",
    "data": "training.data",
    "declaration": "core.declaration",
    "evaluate": "training.evaluate",
    "fit": "training.fit",
    "gradient": "training.gradient",
    "keys": "core.keys",
    "layer": "core.layer",
    "memory": "runtime.memory",
    "metrics": "training.metrics",
    "patching": "inspect.patching",
    "paths": "walk.paths",
    "record": "core.record",
    "reduce": "training.reduce",
    "shapes": "errors.shapes",
    "signatures": "errors.signatures",
    "step": "training.step",
    "summary": "inspect.summary",
    "terms": "core.terms",
    "threads": "runtime.threads",
    "train": "training.train",
    "tree": "core.tree",
    "walk.addable": "core.addable",
}


def keep_former_names() -> None:
    """Let `import` and pickle find each module by its former name, too."""
    for former, name in FORMER_NAMES.items():
        sys.modules[f"lincoln_fn.{former}"] = sys.modules[f"lincoln_fn.{name}"]


def current_name(kind: str) -> str:
    """Return the present name of a class that may be written with its module's former name."""
    module, _, name = kind.removeprefix("lincoln_fn.").rpartition(".")
    return f"lincoln_fn.{FORMER_NAMES[module]}.{name}" if module in FORMER_NAMES else kind
