"""Trees of tensors as trees of numpy arrays, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lincoln_fn.core import Tree, tree


def to_numpy(arrays: Tree) -> Tree:
    """Convert all tensors of a tree to numpy arrays in new memory, including those in states.

    Raises:
        TypeError: for a dtype that numpy lacks, such as bfloat16.

    Example:
        >>> to_numpy((torch.ones(2), None))
        (array([1., 1.], dtype=float32), None)
    """
    return tree.map(_array, arrays, states=True)


def from_numpy(arrays: Tree) -> Tree:
    """Convert all numpy arrays of a tree to tensors in new memory, including those in states.

    Arrays have any strides, and float64 stays float64.

    Example:
        >>> from_numpy({"x": np.ones((2, 1)), "y": np.int64(3)})
        {'x': tensor([[1.],
                [1.]], dtype=torch.float64), 'y': tensor(3)}
    """
    return tree.map(lambda a: torch.from_numpy(np.array(a, order="C")), arrays, states=True)


def _array(tensor: Tensor) -> Tree:
    if tensor.dtype is torch.bfloat16:
        raise TypeError("to_numpy: numpy has no bfloat16; convert first, for example by t.float()")
    return np.array(tensor.detach().cpu().numpy(), order="C")
