"""A sequence of long short-term memory behind an embedding, in a compiled step.

Where x_t is row k_t of a table E, so is what it adds to the gates, and what comes back to it:

    x_t W_ih + b = T[k_t],    T = E W_ih + b,
    dE = S W_ih^T,    dW_ih = E^T S,    db = sum over k of S[k],

S[k] being the sum of the da_t of all steps with k_t = k. So where the table is shorter than the
sequences, the input costs two small products in place of three large ones: of the training step of
a network that reads characters, a twelfth.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiled import lstm
from lincoln_fn.compiled.lstm_steps import Tensors, begun_with, taken, taken_back
from lincoln_fn.compiled.nodes import is_same
from lincoln_fn.compiled.ways import product

aten = torch.ops.aten

# Numbers in T up to which each thread's sums stay in its core's cache.
_MOST: Final = 2**18


def rewrite(graph: GraphModule) -> None:
    """Let the sequences of lstm.py read codes, where an embedding alone makes their input.

    Args:
        graph: a traced step, which is changed.
    """
    for node in graph.graph.find_nodes(op="call_function", target=lstm.forward):
        embedding = _behind(node)
        readers = {reader for made in node.users for reader in made.users}
        backwards = [reader for reader in readers if reader.target is lstm.backward]
        gradients = [_gradients(step, embedding) for step in backwards if embedding]
        if embedding is None or not _is_short(embedding, node) or None in gradients:
            continue
        for step, way in ((node, forward), *((step, backward) for step in backwards)):
            step.target, step.args = way, (*embedding.args[:2], *step.args[1:])
        for dx, dtable in (pair for pairs in gradients for pair in pairs or ()):
            dtable.replace_all_uses_with(dx)
            graph.graph.erase_node(dtable)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def forward(
    table: Tensor, codes: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor,
    h: Tensor, c: Tensor, reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensors]:  # fmt: skip
    """Compute what `lstm.forward` does of x_t = E[k_t].

    Args:
        table: E, of shape (entries, n_in).
        codes: k (batch, length).
        w_ih: as `lstm.forward` takes it, as are those that follow.
        w_hh: likewise.
        b_ih: likewise.
        b_hh: likewise.
        h: likewise.
        c: likewise.
        reverse: likewise.

    Returns:
        What `lstm.forward` does.
    """
    nothing = table.new_empty(*codes.shape, 0)
    biases = table @ w_ih + (b_ih + b_hh)
    return taken(nothing, w_hh, biases, codes.long(), h, c, reverse)


def backward(
    table: Tensor, codes: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor,
    h: Tensor, c: Tensor, y: Tensor, last_h: Tensor, last_c: Tensor, g: Tensor, dh: Tensor,
    dc: Tensor, reverse: bool, notes: Tensors,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Compute what `lstm.backward` does, and dE in place of dx.

    Args:
        table: as `forward` took it.
        codes: likewise.
        w_ih: as `lstm.backward` takes it, as are those that follow.
        w_hh: likewise.
        b_ih: likewise.
        b_hh: likewise.
        h: likewise.
        c: likewise.
        y: likewise.
        last_h: likewise.
        last_c: likewise.
        g: likewise.
        dh: likewise.
        dc: likewise.
        reverse: likewise.
        notes: likewise.

    Returns:
        dE (entries, n_in), and what else `lstm.backward` returns.
    """
    entries, k = len(table), codes.long()
    da, sums, *first = taken_back(w_hh, c, g, dh, dc, k, entries, reverse, notes)
    begun = begun_with(h, y, reverse).flatten(0, 1)
    dw_hh = product(begun.mT.contiguous(), da)
    return sums @ w_ih.mT, sums.mT @ table, dw_hh.mT, sums.sum(0), *first


def _behind(layer: Node) -> Node | None:
    """Find the embedding whose (batch, length, n_in) the layer takes (length, batch, n_in)."""
    x: Any = layer.args[0]  # Any: torch's type for an argument is a union
    if x.target is aten.clone.default:
        x = x.args[0]
    embedding = _turned_back(x)
    return embedding if embedding and embedding.target is aten.embedding.default else None


def _turned_back(node: Any) -> Any:  # Any: as above
    is_turned = node.target is aten.transpose.int and node.args[1:] == (0, 1)
    return node.args[0] if is_turned else None


def _is_short(embedding: Node, layer: Node) -> bool:
    """Tell whether the table is shorter than the sequences, and T small."""
    given: Any = (*embedding.args[:2], layer.args[1])  # Any: as above
    table, codes, w_ih = (arg.meta["val"] for arg in given)
    is_sequence = codes.ndim == 2 and len(table) <= codes.numel()
    return bool(is_sequence and len(table) * w_ih.shape[1] <= _MOST)


def _gradients(layer: Node, embedding: Node) -> list[tuple[Node, Node]] | None:
    """Pair each dx of a layer with the table's gradient, all that is made of it; None if it is not.

    A table with a padding_idx has another gradient.
    """
    dxs = [made for made in layer.users if made.args[1] == 0]
    turned = [(dx, user) for dx in dxs for user in dx.users]
    pairs = [(dx, dtable) for dx, user in turned for dtable in user.users]
    is_turned = all(_turned_back(user) is dx for dx, user in turned)
    is_alone = all(_is_gradient(dtable, embedding.args[1]) for _, dtable in pairs)
    return pairs if is_turned and is_alone else None


def _is_gradient(node: Node, codes: Any) -> bool:  # Any: as above
    given: Any = node.args  # Any: as above
    is_found = node.target is aten.embedding_dense_backward.default and given[3:] == (-1, False)
    return is_found and is_same(given[1], codes)
