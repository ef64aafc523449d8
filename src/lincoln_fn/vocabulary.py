"""Names elsewhere, and ours or the reason why there is none: `python -m lincoln_fn.vocabulary`.

The table has a row for each public module of torch.nn and optimizer of torch.optim. A counterpart
is found by its name, which is torch's in snake case. `RENAMED` lists the other names. `LEFT_OUT`
lists what has no counterpart, with the reason. `vocabulary.txt` has the names of other libraries.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

import torch

from lincoln_fn.combine import ALIASES
from lincoln_fn.core import HABITS

RENAMED: Final = {
    "BCELoss": "losses.log_loss",
    "BCEWithLogitsLoss": "losses.sigmoid_cross_entropy",
    "CrossEntropyLoss": "losses.softmax_cross_entropy",
    "DataParallel": "distributed.mean",
    "LeakyReLU": "leaky_relu",
    "Linear": "dense",
    "MultiheadAttention": "multi_head_attention",
    "NLLLoss2d": "losses.nll",
    "Sequential": "serial",
    "Softmax2d": "softmax",
    "SyncBatchNorm": "distributed.sync_batch_norm",
    "Transformer": "interop.transformer",
    "TransformerDecoder": "interop.transformer_decoder",
    "TransformerDecoderLayer": "transformer_decoder_block",
    "TransformerEncoder": "interop.transformer_encoder",
    "TransformerEncoderLayer": "transformer_encoder_block",
    "UpsamplingBilinear2d": "upsample",
    "UpsamplingNearest2d": "upsample",
    **{f"BatchNorm{n}d": "batch_norm" for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": "instance_norm" for n in (1, 2, 3)},
}

# Functions of torch.nn.functional that have another name here, or whose name means something else.
FUNCTIONS: Final = {
    "binary_cross_entropy": "losses.log_loss",
    "binary_cross_entropy_with_logits": "losses.sigmoid_cross_entropy",
    "cross_entropy": "losses.softmax_cross_entropy",
    "linear": "dense",
    "multilabel_margin_loss": "losses.multi_label_margin",
    "multilabel_soft_margin_loss": "losses.multi_label_soft_margin",
    **{
        f"{name}_loss": f"losses.{name}"
        for name in (
            *("cosine_embedding", "ctc", "gaussian_nll", "hinge_embedding", "huber", "l1"),
            *("margin_ranking", "mse", "multi_margin", "nll", "poisson_nll", "smooth_l1"),
            *("soft_margin", "triplet_margin"),
        )
    },
}

_LAZY = "every layer here finds its input's sizes by itself"

LEFT_OUT: Final = {
    **dict.fromkeys(
        ("Container", "Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList"),
        "holds modules; params are plain tuples and records here",
    ),
    **dict.fromkeys(
        ("MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"),
        "interop.from_function makes it of torch's, for max_pool2d(..., return_indices=True)",
    ),
    "AdaptiveLogSoftmaxWithLoss": "a layer and a loss in one, for vocabularies beyond this scale",
    "ChannelShuffle": "serial(unflatten, permute, flatten) says it",
    "CosineSimilarity": "a function of two inputs; as a loss, losses.cosine_embedding",
    "CrossMapLRN2d": "torch's older form of local_response_norm",
    "EmbeddingBag": "serial(embedding, masked_mean) says it, with bags that are padded",
    "Fold": "the transpose of Unfold; conv_transpose does the work it is used for",
    "PairwiseDistance": "a function of two inputs; as a loss, losses.triplet_margin",
    "RNNBase": "the base class of rnn, gru and lstm",
    "RNNCellBase": "the base class of the cells",
    "TripletMarginWithDistanceLoss": "takes a function without a backward of its own",
    "Unfold": "copies every window; conv does the work it is used for",
    "Optimizer": "the base class",
    "SparseAdam": "for sparse gradients, which no layer here makes",
}


class Row(NamedTuple):
    """A name elsewhere, and our counterpart or the reason why there is none."""

    theirs: str
    ours: str
    reason: str


def table() -> list[Row]:
    """Make the table of torch's names."""
    rows = []
    for package, name in _torch_names():
        ours = _counterpart(name)
        rows.append(Row(f"{package}.{name}", ours, "" if ours else _reason(name)))
    return rows


def peers() -> list[Row]:
    """Read the names of optax and torchmetrics, and transformers' options of generation."""
    rows, home = [], ""
    for line in Path(__file__).with_suffix(".txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            home = line.strip("[]")
        elif line and not line.startswith("#"):
            theirs, told = re.split("  +", line)
            is_here = told.startswith("lf.")
            ours, reason = (told.removeprefix("lf."), "") if is_here else ("", told)
            rows.append(Row(f"{home}.{theirs}", ours, reason))
    return rows


def _torch_names() -> Iterator[tuple[str, str]]:
    for package, module, base in (
        ("nn", torch.nn, torch.nn.Module),
        ("optim", torch.optim, torch.optim.Optimizer),
    ):
        for name, value in inspect.getmembers(module, inspect.isclass):
            if issubclass(value, base):
                yield package, name


def _library() -> ModuleType:
    return sys.modules["lincoln_fn"]


def _counterpart(name: str) -> str:
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.removesuffix("Loss"))
    lowered = snake.lower()
    squeezed = lowered.replace("_", "")
    likely = (lowered, squeezed, f"losses.{lowered}", f"optim.{squeezed}")
    for path in (RENAMED.get(name, ""), *likely):
        owner, _, attribute = path.rpartition(".")
        home = getattr(_library(), owner) if owner else _library()
        if attribute in home.__all__ and callable(getattr(home, attribute)):
            return path
    return ""


def _reason(name: str) -> str:
    return _LAZY if name.startswith("Lazy") else LEFT_OUT.get(name, "")


# The rooms with functions that a user might look for in the wrong one.
_ROOMS: Final = (
    *("", "optim", "losses", "metrics", "schedules", "initializers", "data", "streams", "testing"),
    *("plots", "interop", "checkpoint", "distributed", "inspect", "tree", "keys"),
)


def missing_name(module: str, name: str) -> AttributeError:
    """Make the error about a name that a module of the library does not have.

    Args:
        module: such as "lincoln_fn.optim".
        name: the name, perhaps torch's.

    Returns:
        The error. It says what the name is called here, or that it is left out and why, or in which
        module it stands.

    Example:
        >>> missing_name("lincoln_fn.optim", "Adam")
        AttributeError("module 'lincoln_fn.optim' has no attribute 'Adam'; torch.optim.Adam is \
lf.optim.adam here")
    """
    problem = f"module {module!r} has no attribute {name!r}"
    told = "" if name.startswith("_") else _told(module, name)
    return AttributeError(f"{problem}; {told}" if told else problem)


def _told(module: str, name: str) -> str:
    if name in HABITS.get(module, ()):
        return HABITS[module][name]
    for package, torchs in _torch_names():
        if torchs == name:
            ours = _counterpart(name)
            told = f"is lf.{ours} here" if ours else f"is left out here: {_reason(name)}"
            return f"torch.{package}.{name} {told}"
    if name in ALIASES:
        return f"torch.{name} is lf.{ALIASES[name]} here"
    if name in ("nn", "functional"):
        return "layers stand in lf itself, such as lf.dense"
    torchs = f"torch.nn.functional.{name} is lf.{FUNCTIONS[name]} here" if name in FUNCTIONS else ""
    for room in _ROOMS:
        if room and room not in _library().__all__:
            continue
        home = getattr(_library(), room) if room else _library()
        names = getattr(home, "__all__", vars(home))
        close = {_squeezed(key): key for key in names if not key.startswith("_")}
        found = close.get(_squeezed(name))
        value = getattr(home, found) if found else None
        if callable(value) and str(value.__module__).startswith("lincoln_fn"):
            path = f"lf.{room}.{found}" if room else f"lf.{found}"
            return f"{torchs}, and {path} something else" if torchs else f"write {path}"
    return torchs


def _squeezed(name: str) -> str:
    return name.lower().replace("_", "")


def main() -> None:
    """Print both tables."""
    rows = table() + peers()
    width = max(len(row.theirs) for row in rows)
    for row in rows:
        told = f"lf.{row.ours}" if row.ours else f"left out: {row.reason}"
        print(f"{row.theirs:{width}}  {told}")
    here = sum(bool(row.ours) for row in rows)
    print(f"\n{here} of {len(rows)} are here; torch {torch.__version__}")


if __name__ == "__main__":
    main()
