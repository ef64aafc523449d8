"""Labels as rows of zeros and a one, for terms of a loss's gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def one_hot(integers: list[Any], x: list[Tensor]) -> list[tuple[str, Tensor]]:
    """Write the first labels as rows of zeros and a one."""
    for leaf in integers:
        is_list = isinstance(leaf, list) and bool(leaf) and all(type(v) is int for v in leaf)
        is_array = is_list or isinstance(leaf, Tensor | np.ndarray)
        labels = torch.as_tensor(leaf) if is_array else torch.ones(())
        if labels.dtype is not torch.int64 or not labels.numel():
            continue
        labels = labels.squeeze(-1) if labels.shape[-1:] == (1,) else labels  # gather's
        is_count = labels.ndim == 1 and torch.equal(labels, torch.arange(len(labels)))
        for scores in x:
            if labels.shape == scores.shape[:-1] and not is_count:
                classes = torch.arange(scores.shape[-1])
                return [("onehot", (labels[..., None] == classes).double())]
    return []
