"""Local losses: each hidden block learns by a loss of its own, from a small head on its output.

Derivation. h_i is the output of hidden block i, and y the network's. The block's head makes a local
output of h_i, whose gradient is g_i. No gradient goes from a block to the one before it:

    "out"_i = "head"_i(h_i)
    dh_i = "dx of head"_i "for" g_i

`local_loss` makes the losses.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine import branch, serial
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, constructor, unexpected
from lincoln_fn.initializers import zeros
from lincoln_fn.layers import conv, dense, flatten, identity
from lincoln_fn.rules.local_loss import Classes, Kind
from lincoln_fn.rules.matrices import Selector, blocks_of, has_matrices, of_blocks
from lincoln_fn.walk import VisitBack, VisitThere, check_entries, is_trained
from lincoln_fn.walk.internal import Record, init_with_outputs

_RULE: Final = "local_losses"


def _there(
    visit: VisitThere, params: Params, x: Arrays, *, starts: tuple[int, ...]
) -> tuple[tuple[Arrays, ...], Record]:
    check_entries(visit.label, "params", params, len(visit.parts))
    heads = _heads(starts, len(visit.parts))
    records = [None] * len(visit.parts)
    outputs = []
    for i in range(_count(starts, visit)):
        x, records[i] = visit(i, params[i], x)
        if i in heads:
            y, records[heads[i]] = visit(heads[i], params[heads[i]], x)
            outputs.append(y)
    return (*outputs, x), tuple(records)


def _predict(
    visit: VisitThere, params: Params, x: Arrays, *, starts: tuple[int, ...]
) -> tuple[Arrays, None]:
    check_entries(visit.label, "params", params, len(visit.parts))
    for i in range(_count(starts, visit)):
        x, _ = visit(i, params[i], x)
    return x, None


def back(
    visit: VisitBack,
    params: Params,
    cache: Cache,
    g: tuple[Arrays, ...],
    *,
    starts: tuple[int, ...],
    is_local: bool = True,
) -> tuple[Arrays, Record]:
    """Begin each block with the dx of its head; if not local, with that of the next block."""
    check_entries(visit.label, "params", params, len(visit.parts))
    check_entries(visit.label, "the cache", cache, len(visit.parts))
    check_entries(visit.label, "g", g, len(starts))
    heads = _heads(starts, len(visit.parts))
    records = [None] * len(visit.parts)
    *of_heads, dx = g
    for i in reversed(range(_count(starts, visit))):
        if i in heads:
            k = heads[i]
            of_head, records[k] = visit(k, params[k], cache[k], of_heads.pop())
            dx = of_head if is_local else dx
        dx, records[i] = visit(i, params[i], cache[i], dx)
    return dx, tuple(records)


def _heads(starts: tuple[int, ...], count: int) -> dict[int, int]:
    """Map the last part of each hidden block to its head's position, behind all parts."""
    first = count - len(starts) + 1
    return {start - 1: first + i for i, start in enumerate(starts[1:])}


def _count(starts: tuple[int, ...], visit: VisitThere | VisitBack) -> int:
    return len(visit.parts) - len(starts) + 1


def _needs_dx(i: int, params: Params, *, starts: tuple[int, ...]) -> bool:
    """Return whether a trained part in the same block is before part i, or before head i."""
    count = len(params) - len(starts) + 1
    end = starts[i - count + 1] if i >= count else i
    start = max((start for start in starts[1:] if start < end), default=0)
    return i not in starts[1:] and any(map(is_trained, params[start:end]))


def _init(
    parts: tuple[Layer, ...], key: Key, x: Arrays, *, starts: tuple[int, ...], n_classes: int
) -> Params:
    count = len(parts) - len(starts) + 1
    made, outputs = init_with_outputs(parts[:count], key, x)
    if not isinstance(outputs[-1], Tensor) or outputs[-1].shape[1:2] != (n_classes,):
        expected = f"a network that ends with logits of {n_classes} classes"
        raise unexpected(_RULE, expected, core.format_briefly(outputs[-1]))
    inputs = (outputs[start - 1] for start in starts[1:])
    pairs = enumerate(zip(parts[count:], inputs, strict=True))
    return (*made, *(head.init(key.fold_in(count + i), h) for i, (head, h) in pairs))


def _similarity_init(key: Key, x: Tensor) -> dense.Params | conv.Params:
    """Draw a dense layer as wide as x, or for images a convolution of 3 by 3 with its channels."""
    square = x.ndim < 4
    layer = (
        dense.dense(x.shape[-1], bias=False) if square else conv.conv2d(x.shape[1], 3, bias=False)
    )
    params: dense.Params | conv.Params = layer.init(key, x)
    return params


# Their forward reads how a kernel moves; the kernels, or W, are the params'.
_CONVOLUTION: Final = conv.conv2d(1, 3, padding=1, bias=False)
_DENSE: Final = dense.dense(1, bias=False)


def _head(params: dense.Params | conv.Params) -> Layer:
    return _CONVOLUTION if isinstance(params, conv.Params) else _DENSE


def _similarity_forward(params: dense.Params | conv.Params, x: Tensor) -> tuple[Tensor, Cache]:
    return _head(params).forward(params, x)


def _similarity_backward(
    params: dense.Params | conv.Params, cache: Cache, g: Tensor
) -> tuple[Tensor, dense.Params | conv.Params]:
    return _head(params).backward(params, cache, g)


_SIMILARITY: Final = Layer(
    "similarity_head()", _similarity_forward, _similarity_backward, _similarity_init
)


@constructor
def local_losses(
    net: Layer, n_classes: Classes, *, kind: Kind = "both", layers: Selector = has_matrices
) -> Layer:
    """Give each hidden block a head, and let it learn only from the loss of its head's output.

    Take `local_loss` for its loss. `forward` returns the heads' outputs and the network's,
    (out_1, ..., y); `predict` returns y alone.

    Args:
        net: the network, made by `serial`, which ends with logits of n_classes, 2 or more.
        kind: the heads. "prediction": a dense layer to logits, which is 0 at first. "similarity":
            features, from a dense layer as wide as its input, or for images from a convolution of
            3 by 3, neither with a bias. "both": a pair of logits and features.
        layers: whether a part begins a block, as in `direct_feedback_alignment`. A part may be a
            `serial`, so a block may begin with a dropout that its head does not see.

    Returns:
        The network. Its params are those of net, and then those of the heads.

    Source:
        Nøkland and Eidnes, "Training Neural Networks with Local Error Signals", ICML 2019.

    Example:
        >>> net = local_losses(lf.serial(lf.dense(5), lf.relu(), lf.dense(3)), 3)
        >>> x = torch.zeros(4, 6)
        >>> (logits, features), y = net.forward(net.init(lf.Key(0), x), x)[0]
        >>> logits.shape, features.shape, y.shape
        (torch.Size([4, 3]), torch.Size([4, 5]), torch.Size([4, 3]))
    """
    starts = blocks_of(_RULE, net, layers)
    prediction = serial(flatten.flatten(), dense.dense(n_classes, weight_init=zeros()))
    heads = {
        "prediction": prediction,
        "similarity": _SIMILARITY,
        "both": branch(prediction, _SIMILARITY, merge=identity.identity()),
    }
    return of_blocks(
        net, starts, (heads[kind],) * (len(starts) - 1), _there, back,
        init=_init, predict=_predict, needs_dx=_needs_dx,
    )  # fmt: skip
