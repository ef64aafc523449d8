"""Cases that a submission is graded by."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import keys, tree
from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Arrays, Layer, Params
from lincoln_fn.errors.arguments import PositiveInt, checked
from lincoln_fn.training.batch_checks import check_example


@checked
def make_cases(
    reference: Layer, x: Arrays, *, count: PositiveInt = 2, key: Key = Key(0)
) -> tuple[tuple[Params, Arrays], ...]:
    """Make cases of a layer for `grade`.

    Inputs are drawn from the normal distribution, with a standard deviation of 1 and 4 in turn, so
    that both sides of a kink are met. Normal numbers are also added to the parameters that `init`
    draws: a weight of ones or a bias of zeros would hide mistakes.

    Args:
        reference: the layer.
        x: an example input. Floating tensors give their shape; integers and masks are kept.
        count: how many cases.
        key: the numbers are drawn from it.

    Returns:
        Pairs (params, x).

    Raises:
        LayerError: if an argument has the wrong type.

    Example:
        >>> cases = make_cases(lf.dense(4), torch.zeros(5, 3))
        >>> [(params.weight.shape, x.shape) for params, x in cases][0]
        (torch.Size([3, 4]), torch.Size([5, 3]))
    """
    check_example("make_cases", x)
    cases = []
    for i in range(count):
        init_key, x_key, params_key = key.fold_in(i).split(3)
        drawn = _added(tree.map(_zeros, x), x_key, 4.0 if i % 2 else 1.0)
        cases.append((_added(reference.init(init_key, x), params_key, 0.5), drawn))
    return tuple(cases)


def _zeros(leaf: Tensor) -> Tensor:
    return leaf.new_zeros(leaf.shape) if leaf.is_floating_point() else leaf


def _added(arrays: Arrays, key: Key, scale: float) -> Arrays:
    """Add normal numbers to every floating tensor."""
    count = iter(range(len(tree.leaves(arrays))))

    def moved(leaf: Tensor) -> Tensor:
        own = key.fold_in(next(count)).near(leaf)
        if not leaf.is_floating_point():
            return leaf
        return leaf + scale * keys.normal(own, tuple(leaf.shape), dtype=leaf.dtype)

    return tree.map(moved, arrays)
