"""From adapted layers back to those that there were."""

from __future__ import annotations

from lincoln_fn.combine import frozen
from lincoln_fn.core import Key, Layer, Params, checked, made_by
from lincoln_fn.finetune.dora import DoraParams, merge_decomposed
from lincoln_fn.finetune.lora import low_rank, merge_low_rank
from lincoln_fn.walk.internal import Pair, change_parts, composition_of


@checked
def merge_lora(net: Layer, params: Params) -> tuple[Layer, Params]:
    """Add the updates of `lora` and `dora` to the matrices, and thaw what they froze.

    Returns:
        The network with its former layers, and their params: W + (alpha / r) A B in the place of
        W. An adapted layer of 4 or 8 bits becomes dense. What was frozen before is thawed, too.

    Example:
        >>> net, x = lf.serial(lf.dense(2), lf.tanh()), torch.ones(1, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> adapted = lf.lora(net, params, lf.Key(1), targets=("0",))
        >>> merged = merge_lora(*adapted)
        >>> merged[0], (merged[1][0].weight == params[0].weight).all()
        (serial(dense(2), tanh()), tensor(True))
    """
    return change_parts(_merged, net, "", params, None)


def _merged(layer: Layer, path: str, params: Params, key: Key | None) -> Pair | None:
    composed = composition_of(layer)
    # By the layer, for a combinator's params may be those of its part.
    if composed is None:
        return merge_decomposed(layer, params) if isinstance(params, DoraParams) else None
    if made_by(layer, low_rank):
        return merge_low_rank(layer, params)
    if made_by(layer, frozen):
        return change_parts(_merged, composed.parts[0], path, params.params, key)
    return None
