"""The modules' former names: users import by them, and what they have pickled refers to them.

A private module has a former name here if a pickle of a network or a step may refer to it.
"""

from __future__ import annotations

import sys
from typing import Final

FORMER_NAMES: Final = {
    "_bare_step": "training.bare_step",
    "_patches": "inspect.patches",
    "_slices": "optim.slices",
    "_step_errors": "training.step_errors",
    "arguments": "errors.arguments",
    "combine._scores": "combine.embedding_scores",
    "constructors": "core.constructors",
    "data": "training.data",
    "declaration": "core.declaration",
    "evaluate": "training.evaluate",
    "fit": "training.fit",
    "gradient": "training.gradient",
    "keys": "core.keys",
    "layer": "core.layer",
    "layers._attention": "layers.common.attention",
    "layers._attention_forms": "layers.common.attention_forms",
    "layers._by_running": "layers.common.running_statistics",
    "layers._conv": "layers.common.convolution",
    "layers._heads": "layers.attention_heads",
    "layers._normalisation": "layers.common.normalisation",
    "layers._padding": "layers.common.pad_axes",
    "layers._pool": "layers.common.pooling",
    "layers._recurrent": "layers.common.recurrent",
    "layers._recurrent_forms": "layers.common.recurrent_forms",
    "layers._scan": "layers.common.scan",
    "layers._stand_in": "layers.common.stand_in",
    "losses._labels": "losses.common.labels",
    "losses._parts": "losses.common.parts",
    "losses._predictions": "losses.common.predictions",
    "losses._reduction": "losses.common.reduction",
    "losses._sums": "losses.common.sums",
    "losses._targets": "losses.common.targets",
    "losses._weights": "losses.common.weights",
    "memory": "runtime.memory",
    "metrics": "training.metrics",
    "patching": "inspect.patching",
    "paths": "walk.paths",
    "record": "core.record",
    "reduce": "training.reduce",
    "rules._feedback": "rules.feedback",
    "shapes": "errors",
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
    """Let `import`, pickle and `lf.shapes` find each module by its former name, too."""
    library = sys.modules["lincoln_fn"]
    for former, name in FORMER_NAMES.items():
        module = sys.modules[f"lincoln_fn.{name}"]
        sys.modules[f"lincoln_fn.{former}"] = module
        if former.isidentifier() and not hasattr(library, former):  # `lf.fit` is the function
            setattr(library, former, module)


def current_name(kind: str) -> str:
    """Return the present name of a class that may be written with its module's former name."""
    module, _, name = kind.removeprefix("lincoln_fn.").rpartition(".")
    return f"lincoln_fn.{FORMER_NAMES[module]}.{name}" if module in FORMER_NAMES else kind
