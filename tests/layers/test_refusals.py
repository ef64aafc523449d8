"""Every layer of the table, and its faster functions, refuse by name what is not theirs."""

import pytest
import torch
from helpers import FIRST, VERSIONS

import lincoln_fn as lf
from lincoln_fn.core.signatures import unchanged

# They take anything, or do no arithmetic with it.
OPEN = ("identity", "stop_gradient", "select", "serial")
CELLS = ("rnn_cell", "gru_cell", "lstm_cell")
# Their params may be () or None, or are not read on the way back.
UNREAD = ("attention_heads", "class_token")
# A table of any length serves them, or what they refuse is not theirs alone.
LOOSE = ("embedding", "graph_attention", "relative_position_bias", "spectral_norm")
# Layers around one whose errors name it, and attention, whose parts do.
INNER = {
    "weight_norm": ("dense", "conv2d"), "spectral_norm": ("dense", "conv_transpose2d"),
    "inference": ("dropout", "batch_norm"), "linear_head": ("dense",),
    "jvp": ("serial", "serial[0] dense", "serial[2] dense"),
    "multi_head_attention": [f"multi_head_attention[{i}] projection" for i in range(5)],
}  # fmt: skip
SINGLE = [
    row
    for row in VERSIONS
    if (case := row.values[0]) in FIRST  # what is checked on the way in is one for all of a kind
    and not case.layer.name.startswith(OPEN)
    and (not case.layer.parts or case.layer.name.startswith("multi_head"))
]


def refuses(layer, problem, function, *arguments):
    """Call a function of a layer: the error names the layer and the problem."""
    with pytest.raises(lf.LayerError, match=problem) as caught:
        function(*arguments)
    named, own = (text.partition("(")[0] for text in (caught.value.where, layer.name))
    assert named in (own, *INNER.get(own, ()))


def broadcasting(params):
    """Give params, each time with a row of a tensor, which would broadcast, in its place."""
    leaves = lf.tree.leaves(params)
    for i, leaf in enumerate(leaves):
        if leaf.shape[:1] > (1,):
            others = iter([*leaves[:i], leaf[:1], *leaves[i + 1 :]])
            yield lf.tree.map(lambda _, others=others: next(others), params)


@pytest.mark.full(
    but=(
        *("[dense(4)-5x3", "[relu()-5x3", "[add()-", "[conv2d(4, 3)-2x3x5x6", "[layer_norm()-5x3"),
        *("[batch_norm()-5x3", "[embedding(7, 3)-", "[max_pool2d(2)-", "[lstm(4)-2x5x3", "[sum()-"),
        *("[dropout()-5x3", "[flatten()-", "[attention_heads(2)-2x5x6+2x4x6+2x4x6", "[where()-"),
    )
)
@pytest.mark.parametrize(("case", "layer"), SINGLE)
def test_what_is_of_another_layer_is_refused(case, layer):
    params, x = case.params(), case.x
    y, cache = layer.forward(params, x)
    backwards = layer.backward, layer.input_grad, layer.grads
    forwards = layer.forward, layer.predict
    for function in forwards:
        if function is layer.forward or not layer.name.startswith(UNREAD):
            refuses(layer, "expected params ", function, (1, 2), x)
        if isinstance(x, torch.Tensor) and x.is_floating_point() and "timestep" not in layer.name:
            refuses(layer, "expected x of a floating dtype", function, params, x.long())
            if lf.tree.leaves(params):
                refuses(layer, "expected x of dtype torch.float32", function, params, x.double())
    for function in backwards:
        refuses(layer, "expected the cache of its own forward", function, params, None, y)
    if params and isinstance(x, torch.Tensor) and x.is_floating_point():
        refuses(layer, "expected x of a floating dtype", layer.init, lf.Key(0), x.long())
    if lf.tree.leaves(params, states=True):
        refuses(layer, "expected key to be a Key, got 1; write lf.Key", layer.init, 1, x)
    if lf.tree.leaves(params, states=True) and not layer.name.startswith(UNREAD):
        for function in backwards:
            refuses(layer, "expected params ", function, (1, 2), cache, y)
        if layer.advance is not unchanged:
            refuses(layer, "expected params ", layer.advance, (1, 2), cache)
    for wrong in broadcasting(params) if not layer.name.startswith(LOOSE) else ():
        refuses(layer, "expected ", layer.forward, wrong, x)
    if not isinstance(y, torch.Tensor) or layer.name.startswith(CELLS):
        return
    for function in backwards:
        refuses(layer, "expected g to be a tensor, got NoneType", function, params, cache, None)
        if y.ndim:
            shapes = rf"expected g of shape \({y.shape[0]}.*, got \({2 * y.shape[0]}"
            refuses(layer, shapes, function, params, cache, torch.cat([y, y]))
        refuses(layer, "expected g of dtype", function, params, cache, y.double())
