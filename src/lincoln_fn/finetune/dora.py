"""Low-rank adaptation of directions, with the lengths of the matrices' columns."""

from __future__ import annotations

from functools import partial

from lincoln_fn.core import Key, Layer, LayerError, Params, Positive, PositiveInt, checked
from lincoln_fn.finetune.targets import ATTENTION, Targets, adapt, dense_like
from lincoln_fn.finetune.weight_decomposed import decompose, weight_decomposed
from lincoln_fn.layers import dense
from lincoln_fn.walk.internal import Pair


@checked
def dora(
    net: Layer,
    params: Params,
    key: Key,
    *,
    r: PositiveInt = 8,
    alpha: Positive = 16.0,
    targets: Targets = ATTENTION,
) -> tuple[Layer, Params]:
    """Train low-rank updates of the directions of matrices and, apart from them, the lengths.

    It is `lora` with a trained length m_j of each column: y_j = m_j (x V)_j / |V_j| + b_j with
    V = W + (alpha / r) A B. m begins as the lengths of W's columns, and B at 0.

    Args:
        params: the network's, trained before.
        key: A is drawn from it.
        r: the rank of the updates.
        alpha: the updates are multiplied by alpha / r.
        targets: patterns of the paths of dense layers, as `lora` takes them.

    Returns:
        The network and its params. `merge_lora` makes layers like those given of them.

    Raises:
        LayerError: if a pattern fits no dense layer, and it lists their paths; if a column of a
            matrix is zero, for it has no direction.

    Source:
        Liu and others, "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024.

    Example:
        >>> net, x = lf.serial(lf.dense(2), lf.tanh()), torch.ones(1, 3)
        >>> net, params = dora(net, net.init(lf.Key(0), x), lf.Key(1), r=1, targets=("0",))
        >>> lf.tree.paths(params)
        ['0.magnitude', '0.lora_a', '0.lora_b']
    """
    adapted = partial(_adapted, r=r, factor=alpha / r)
    return adapt("dora", adapted, net, params, key, targets)


def _adapted(layer: Layer, params: Params, key: Key, *, r: int, factor: float) -> Pair:
    decomposed = decompose(params, key, r=r)
    if zero := int((decomposed.magnitude == 0).sum()):
        problem = f"expected columns of W with a direction, got {zero} of zeros"
        raise LayerError(f"dora: {layer.name}", f"{problem}; use lora, or other targets")
    sized = dense_like(params) if isinstance(params, dense.Params) else layer
    return weight_decomposed(layer.name, sized, r, factor), decomposed
