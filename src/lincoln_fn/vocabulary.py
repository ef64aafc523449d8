"""torch's vocabulary and ours: `python -m lincoln_fn.vocabulary` prints what has a counterpart.

The table has a row for each public module of torch.nn and optimizer of torch.optim. A counterpart
is found by its name, which is torch's in snake case. `RENAMED` lists the other names. `LEFT_OUT`
lists what has no counterpart, with the reason.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import torch

import lincoln_fn as lf

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

_CONTAINER = "holds modules; params are plain tuples and records here"
_LAZY = "every layer here finds its input's sizes by itself"
_UNPOOL = "interop.from_function makes it of torch's, for max_pool2d(..., return_indices=True)"

LEFT_OUT: Final = {
    "AdaptiveLogSoftmaxWithLoss": "a layer and a loss in one, for vocabularies beyond this scale",
    "ChannelShuffle": "serial(unflatten, permute, flatten) says it",
    "Container": _CONTAINER,
    "CosineSimilarity": "a function of two inputs; as a loss, losses.cosine_embedding",
    "CrossMapLRN2d": "torch's older form of local_response_norm",
    "EmbeddingBag": "an embedding and a sum; the bags of unequal size need a tape of offsets",
    "Fold": "the transpose of Unfold; conv_transpose does the work it is used for",
    "LinearCrossEntropyLoss": "a layer and a loss in one; dense and softmax_cross_entropy say it",
    "MaxUnpool1d": _UNPOOL,
    "MaxUnpool2d": _UNPOOL,
    "MaxUnpool3d": _UNPOOL,
    "Module": _CONTAINER,
    "ModuleDict": _CONTAINER,
    "ModuleList": _CONTAINER,
    "PairwiseDistance": "a function of two inputs; as a loss, losses.triplet_margin",
    "ParameterDict": _CONTAINER,
    "ParameterList": _CONTAINER,
    "RNNBase": "the base class of rnn, gru and lstm",
    "RNNCellBase": "the base class of the cells",
    "TripletMarginWithDistanceLoss": "takes a function without a backward of its own",
    "Unfold": "copies every window; conv does the work it is used for",
    "Adafactor": "saves memory that networks of this scale do not need saved",
    "LBFGS": "calls the network several times a step, which update(params, grads, state) cannot",
    "Optimizer": "the base class",
    "SparseAdam": "for sparse gradients, which no layer here makes",
}


class Row(NamedTuple):
    """A torch name, and our counterpart or the reason why there is none."""

    torch: str
    ours: str
    reason: str


def table() -> list[Row]:
    """Make the table."""
    rows = []
    for package, name in _torch_names():
        ours = _counterpart(name)
        rows.append(Row(f"{package}.{name}", ours, "" if ours else _reason(name)))
    return rows


def _torch_names() -> Iterator[tuple[str, str]]:
    for package, module, base in (
        ("nn", torch.nn, torch.nn.Module),
        ("optim", torch.optim, torch.optim.Optimizer),
    ):
        for name, value in inspect.getmembers(module, inspect.isclass):
            if issubclass(value, base):
                yield package, name


def _counterpart(name: str) -> str:
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.removesuffix("Loss"))
    lowered = snake.lower()
    squeezed = lowered.replace("_", "")
    likely = (lowered, squeezed, f"losses.{lowered}", f"optim.{squeezed}")
    for path in (RENAMED.get(name, ""), *likely):
        owner, _, attribute = path.rpartition(".")
        home = getattr(lf, owner) if owner else lf
        if callable(vars(home).get(attribute)):
            return path
    return ""


def _reason(name: str) -> str:
    return _LAZY if name.startswith("Lazy") else LEFT_OUT.get(name, "")


def main() -> None:
    """Print the table."""
    rows = table()
    width = max(len(row.torch) for row in rows)
    for row in rows:
        print(f"{row.torch:{width}}  {'lf.' + row.ours if row.ours else 'left out: ' + row.reason}")
    here = sum(bool(row.ours) for row in rows)
    print(f"\n{here} of {len(rows)} are here; torch {torch.__version__}")


if __name__ == "__main__":
    main()
