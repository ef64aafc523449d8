"""Draw the Jacobian of a layer for a small x, computed by the layer's own functions, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, Final

import torch

import lincoln_fn as lf
from lincoln_fn.grading import assignment
from lincoln_fn.plots.derivatives import jacobian_matrix


def _x(*shape: int, seed: int = 0) -> torch.Tensor:
    return lf.keys.normal(lf.Key(seed), shape)


_MASK: Final = torch.tensor([[True, True, True, False]])
_EDGES: Final = torch.tensor([[0, 1, 1, 2, 3], [1, 0, 2, 1, 2]])
_PAIR: Final = (_x(1, 6), _x(1, 6, seed=1))
_THREE: Final = (_x(1, 3, 2), _x(1, 3, 2, seed=1), _x(1, 3, 2, seed=2))
# By file, a layer and its input, which is so small that each number is a visible square. Any: a
# tensor, or a tuple of them.
EXAMPLES: Final[Mapping[str, tuple[lf.Layer, Any]]] = {
    "adaptive_avg_pool": (lf.adaptive_avg_pool1d(3), _x(2, 1, 8)),
    "adaptive_max_pool": (lf.adaptive_max_pool1d(3), _x(2, 1, 8)),
    "add": (lf.add(), _PAIR),
    "alibi": (lf.alibi(1), _x(1, 3, 2)),
    "alpha_dropout": (lf.alpha_dropout(), _x(2, 6)),
    "attention_heads": (lf.attention_heads(2, is_causal=True), _THREE),
    "avg_pool": (lf.avg_pool2d(2), _x(1, 1, 4, 6)),
    "batch_norm": (lf.batch_norm(), _x(5, 3)),
    "bias": (lf.bias(), _x(2, 6)),
    "bilinear": (lf.bilinear(4), (_x(2, 3), _x(2, 5, seed=1))),
    "broadcast": (lf.broadcast_to(-1, 3, -1), _x(2, 1, 4)),
    "class_token": (lf.class_token(), _x(1, 3, 2)),
    "concatenate": (lf.concatenate(), (_x(2, 3), _x(2, 4, seed=1))),
    "conv": (lf.conv2d(1, 3), _x(1, 1, 5, 6)),
    "conv_transpose": (lf.conv_transpose2d(1, 3), _x(1, 1, 3, 4)),
    "cosine_similarities": (lf.cosine_similarities(1.0), (_x(2, 3), _x(2, 3, seed=1))),
    "dense": (lf.dense(4), _x(3, 6)),
    "dilate": (lf.dilate(3), _x(1, 6)),
    "dropout": (lf.dropout(), _x(2, 6)),
    "elementwise": (lf.exp(), _x(2, 6)),
    "flatten": (lf.flatten(), _x(2, 2, 3)),
    "flip": (lf.flip(-1), _x(2, 6)),
    "fractional_max_pool": (lf.fractional_max_pool2d(2, output_size=(3, 3)), _x(1, 1, 5, 6)),
    "gated_linear_recurrence": (lf.gated_linear_recurrence(), _THREE),
    "gather": (lf.gather(1), (_x(2, 5), torch.tensor([[0, 3, 3], [4, 1, 0]]))),
    "global_avg_pool": (lf.global_avg_pool(), _x(2, 3, 4)),
    "glu": (lf.glu(), _x(2, 8)),
    "graph_attention": (lf.graph_attention(1), (_x(4, 2), _EDGES)),
    "graph_conv": (lf.graph_conv(), (_x(4, 2), _EDGES)),
    "group_norm": (lf.group_norm(2), _x(1, 4, 5)),
    "grouped_query_attention": (lf.grouped_query_attention(2, 1), _x(1, 5, 4)),
    "gru": (lf.gru(2), _x(1, 6, 3)),
    "identity": (lf.identity(), _x(2, 6)),
    "instance_norm": (lf.instance_norm(), _x(2, 2, 5)),
    "last_state": (lf.last_state(), (_x(1, 4, 3), _MASK)),
    "linear_attention": (lf.linear_attention(1), _THREE),
    "linear_scan": (lf.linear_scan(), (_x(1, 6, 2).sigmoid(), _x(1, 6, 2, seed=1))),
    "linear_head": (lf.linear_head(2), _x(2, 3)),
    "local_response_norm": (lf.local_response_norm(3, alpha=1.0), _x(1, 5, 3)),
    "log_softmax": (lf.log_softmax(), _x(3, 5)),
    "logsumexp": (lf.logsumexp(1), _x(2, 6)),
    "lp_pool": (lf.lp_pool1d(2, 2), _x(2, 1, 8)),
    "lstm": (lf.lstm(2), _x(1, 6, 3)),
    "masked_mean": (lf.masked_mean(), (_x(1, 4, 3), _MASK)),
    "matmul": (lf.matmul(), (_x(2, 3), _x(3, 4, seed=1))),
    "max_pool": (lf.max_pool2d(2), _x(1, 1, 4, 6)),
    "multi_head_attention": (lf.multi_head_attention(2, is_causal=True), _x(1, 5, 4)),
    "multiply": (lf.multiply(), _PAIR),
    "pad": (lf.reflection_pad1d(2), _x(1, 2, 5)),
    "pairwise": (lf.subtract(), _PAIR),
    "permute": (lf.permute(0, 2, 1), _x(1, 3, 5)),
    "pixel_shuffle": (lf.pixel_shuffle(2), _x(1, 4, 2, 2)),
    "pixel_unshuffle": (lf.pixel_unshuffle(2), _x(1, 1, 4, 4)),
    "positional_embedding": (lf.positional_embedding(4), _x(1, 4, 3)),
    "recurrent_cell": (lf.gru_cell(3), (_x(2, 4), _x(2, 3, seed=1))),
    "reductions": (lf.mean(1), _x(3, 5)),
    "relative_position_bias": (lf.relative_position_bias(1, 4, 8), _x(1, 3, 2)),
    "reshape": (lf.reshape(3, 4), _x(1, 2, 6)),
    "rnn": (lf.rnn(2), _x(1, 6, 3)),
    "rotary_embedding": (lf.rotary_embedding(), _x(1, 3, 4)),
    "scatter": (
        lf.scatter(1, reduce="add"),
        (_x(1, 4), torch.tensor([[2, 0, 2]]), _x(1, 3, seed=1)),
    ),
    "scaled_dot_product_attention": (lf.scaled_dot_product_attention(is_causal=True), _THREE),
    "selective_scan": (
        lf.selective_scan(2),
        (_x(1, 4, 2), _x(1, 4, 2).sigmoid(), _x(1, 4, 2, seed=1), _x(1, 4, 2, seed=2)),
    ),
    "sinusoidal_positions": (lf.sinusoidal_positions(), _x(1, 3, 4)),
    "softmax": (lf.softmax(), _x(3, 5)),
    "softmin": (lf.softmin(), _x(3, 5)),
    "jvp": (lf.jvp(lf.tanh()), _PAIR),
    "spectral_norm": (lf.spectral_norm(lf.dense(4)), _x(3, 6)),
    "split": (lf.split(2, dim=1), _x(2, 4)),
    "stack": (lf.stack(1), _PAIR),
    "stochastic_depth": (lf.stochastic_depth(0.5), _x(3, 2)),
    "stop_gradient": (lf.stop_gradient(), _x(2, 6)),
    "take": (lf.take(1, -2), _x(1, 3, 4)),
    "timestep_embedding": (lf.timestep_embedding(6), _x(2)),
    "token_log_probs": (lf.token_log_probs(), (_x(1, 3, 5), torch.tensor([[4, 0, 2]]))),
    "unflatten": (lf.unflatten(1, (2, 3)), _x(2, 6)),
    "upsample": (lf.upsample(scale_factor=2, mode="linear"), _x(1, 1, 6)),
    "variance": (lf.variance(1), _x(3, 5)),
    "vector_quantize": (lf.vector_quantize(3), _x(2, 3)),
    "weight_norm": (lf.weight_norm(lf.dense(4)), _x(3, 6)),
    "where": (lf.where(), (_PAIR[0] > 0, *_PAIR)),
}
# Of a layer without a row here: those of its assignment. Integers have no gradient.
ASSIGNED: Final = {name: row for name, row in assignment.EXAMPLES.items() if name != "embedding"}
MARGIN, CELL = 20, 10
LEVELS: Final = 12  # of opacity


def has_picture(name: str) -> bool:
    """Return whether a layer has a row, here or in its assignment, or is made without arguments."""
    if name in EXAMPLES or name in ASSIGNED:
        return True
    made = getattr(lf, name, None)
    return made is not None and all(
        p.default is not p.empty for p in signature(made).parameters.values()
    )


def example_of(name: str) -> tuple[lf.Layer, Any]:  # Any: as in `EXAMPLES`
    """Return a layer and its input: of its row, of its assignment, or as for any layer."""
    if name in EXAMPLES:
        return EXAMPLES[name]
    if name not in ASSIGNED:
        return getattr(lf, name)(), _x(4, 5)
    layer, zeros = (eval(code, {"torch": torch, **vars(lf)}) for code in ASSIGNED[name])
    return layer, lf.tree.map(lambda t: _x(*t.shape) if t.is_floating_point() else t, zeros)


def picture(name: str) -> str:
    """Draw dy/dx of a layer, and say what is drawn.

    Args:
        name: of the layer's file, which `has_picture`.

    Returns:
        HTML, with colours from the style sheet.
    """
    layer, x = example_of(name)
    y, matrix = jacobian_matrix(layer, layer.init(lf.Key(0), x), x)
    shapes = [" and ".join(str(tuple(leaf.shape)) for leaf in _floating(each)) for each in (x, y)]
    caption = (
        f"The Jacobian <code>dy/dx</code> of <code>lf.{layer.name}</code> for <code>x</code> of"
        f" shape {shapes[0]} and <code>y</code> of shape {shapes[1]}, computed by"
        " <code>backward</code>: row <code>i</code> is <code>dx</code> for <code>g</code> = 1 at"
        ' number <code>i</code> of <code>y</code>. <span class="above">Positive</span>,'
        ' <span class="below">negative</span>, empty where 0.'
    )
    return f"<figure>{_svg(layer.name, matrix)}<figcaption>{caption}</figcaption></figure>"


def _floating(arrays: Any) -> list[torch.Tensor]:  # Any: as in `EXAMPLES`
    return [leaf for leaf in lf.tree.leaves(arrays) if leaf.is_floating_point()]


def _svg(name: str, matrix: torch.Tensor) -> str:
    rows, columns = matrix.shape
    levels = (matrix / matrix.abs().max() * LEVELS).round().int().tolist()
    squares: dict[int, list[str]] = {}
    for i, row in enumerate(levels):
        for j, level in enumerate(row):
            if level:
                at = f"M{MARGIN + CELL * j} {MARGIN + CELL * i}h{CELL}v{CELL}h-{CELL}z"
                squares.setdefault(level, []).append(at)
    width, height = MARGIN + CELL * columns, MARGIN + CELL * rows
    parts = [
        f'<svg class="curves" viewBox="0 0 {width + 1} {height + 1}" role="img"'
        f' style="width: {width + 1}px" aria-label="the Jacobian of {name}, {rows} by {columns}">',
        *(
            f'<path class="{"above" if level > 0 else "below"}" opacity="{abs(level) / LEVELS:.2f}"'
            f' d="{"".join(places)}"/>'
            for level, places in sorted(squares.items())
        ),
        f'<path class="axis" d="M{MARGIN} {MARGIN}H{width}V{height}H{MARGIN}z"/>',
        f'<text x="{MARGIN}" y="{MARGIN - 6}">x →</text>',
        f'<text x="{MARGIN - 6}" y="{MARGIN + 10}" text-anchor="end">y</text>',
        f'<text x="{MARGIN - 6}" y="{MARGIN + 24}" text-anchor="end">↓</text>',
    ]
    return "".join([*parts, "</svg>"])
