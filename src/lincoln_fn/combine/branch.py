"""One input to several layers, whose outputs are merged: y = merge(layer_1(x), ...).

Derivation. The merge, which is the last part, turns g into one g_i for each branch, and branch i
turns that into dx_i. x enters every branch, so

    dx = sum_i dx_i

In `parallel`, y_i depends on x_i alone, so dx_i is layer i's backward of g_i.
"""

from __future__ import annotations

from lincoln_fn.combine._wiring import Wiring, wired
from lincoln_fn.core import ByPosition, Layer, Spec, call_of, checked, made_by, require
from lincoln_fn.layers.add import add
from lincoln_fn.layers.identity import identity
from lincoln_fn.walk import ALL_BUT_LAST


def _wiring(count: int) -> Wiring:
    """Give x to every part but the last, which gets their outputs."""
    n = count - 1
    return Wiring((*[0] * n, tuple(range(1, count))), count, ALL_BUT_LAST, bare=(n,))


@checked
def branch(*layers: Layer, merge: Layer | None = None) -> Layer:
    """Give one input to several layers, and merge their outputs: y = merge(layer_1(x), ...).

    Args:
        merge: a layer without parameters, from a tuple to one output: `add()`, which is the
            default, `multiply()`, `concatenate(dim)`, or one of your own.

    Returns:
        The layer. Its params and dparams are tuples with one entry per branch; its caches have one
        more, for the merge.

    Example:
        >>> net = branch(lf.relu(), lf.identity(), merge=lf.multiply())
        >>> net.predict(((), ()), torch.tensor([-2.0, 3.0]))
        tensor([-0., 9.])
    """
    require(len(layers) > 0, "branch", "at least one of layers", layers)
    parts = (*layers, add() if merge is None else merge)
    return wired(branch, parts, _wiring(len(parts)), call=_branch_call)


def _branch_call(parts: tuple[Layer, ...]) -> Spec:
    *layers, merge = parts
    return call_of(branch, *layers, merge=None if made_by(merge, add) else merge)


@checked
def residual(layer: Layer, shortcut: ByPosition[Layer | None] = None) -> Layer:
    """Add a layer's output to its input: y = layer(x) + x, or + shortcut(x).

    Args:
        layer: whose output has x's shape, or the shortcut's output's.
        shortcut: a second path for x, such as a projection; None adds x unchanged.

    Returns:
        The layer: `branch(layer, shortcut)`. Its params are (layer's, shortcut's); its parts are
        the layer, the shortcut, `identity()` where there is none, and `add()`.

    Example:
        >>> residual(lf.relu()).predict(((), ()), torch.tensor([-2.0, 3.0]))
        tensor([-2.,  6.])
    """
    parts = (layer, identity() if shortcut is None else shortcut, add())
    return wired(residual, parts, _wiring(3), call=_residual_call)


def _residual_call(parts: tuple[Layer, ...]) -> Spec:
    layer, shortcut, _ = parts
    return call_of(residual, layer, None if made_by(shortcut, identity) else shortcut)


@checked
def parallel(*layers: Layer) -> Layer:
    """Put layers side by side, each with an input of its own: y_i = layer_i(x_i).

    x, y, params, caches and gradients are tuples with one entry per part.

    Example:
        >>> net = parallel(lf.relu(), lf.tanh())
        >>> net.predict(((), ()), (torch.tensor([-1.0]), torch.tensor([0.0])))
        (tensor([0.]), tensor([0.]))
    """
    n = len(layers)
    return wired(parallel, layers, Wiring(tuple(range(n)), tuple(range(n, 2 * n)), entries=n))
