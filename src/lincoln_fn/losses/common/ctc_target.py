"""Reading the target of `ctc`: labels in rows or in one row, and how long each sequence is."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import LayerError
from lincoln_fn.losses.common.targets import all_within, check_between


def read_target(
    z: Float[Tensor, "T *N C"],
    target: tuple[Int[Tensor, "*N S"], Int[Tensor, "*N"], Int[Tensor, "*N"]],
    blank: int,
) -> tuple[Int[Tensor, "N S"], Int[Tensor, " N"], Int[Tensor, " N"]]:
    """Check everything, and add a batch axis to the target; pad rows of labels with blanks."""
    in_rows = _check_shapes(z, target, blank)
    labels = target[0].long()
    steps, lengths = (tensor.long().reshape(-1) for tensor in target[1:])
    check_between("ctc", "steps", steps, 0, len(z))
    check_between("ctc", "lengths", lengths, 0, labels.shape[-1])
    rows = labels if in_rows else _in_rows(labels, lengths)
    rows = rows.reshape(len(lengths), rows.shape[-1])
    is_label = torch.arange(rows.shape[1], device=rows.device) < lengths.unsqueeze(1)
    # The padding after a row's labels may be any number.
    inside = torch.where(is_label, rows, (blank + 1) % z.shape[-1])
    check_between("ctc", "labels", inside, 0, z.shape[-1] - 1)
    if all_within(is_label & (rows == blank), 0, 0) is False:
        raise LayerError("ctc", f"expected labels other than blank={blank}, got {blank}")
    return torch.where(is_label, rows, blank), steps, lengths


def _check_shapes(z: Tensor, target: tuple[Tensor, Tensor, Tensor], blank: int) -> bool:
    """Check shapes and dtypes, and return whether each sequence's labels have a row."""
    if z.ndim not in (2, 3):
        shape = tuple(z.shape)
        raise LayerError("ctc", f"expected prediction of shape (T, N, C) or (T, C), got {shape}")
    if blank >= z.shape[-1]:
        raise LayerError("ctc", f"expected more classes than blank={blank}, got {z.shape[-1]}")
    for what, tensor in zip(("labels", "steps", "lengths"), target, strict=True):
        if tensor.is_floating_point():
            raise LayerError("ctc", f"expected {what} of an integer dtype, got {tensor.dtype}")
    labels, batch = target[0], tuple(z.shape[1:-1])
    in_rows = labels.shape[:-1] == batch and labels.ndim > 0
    if not in_rows and labels.ndim != 1:
        wanted = f"{(*batch, 'S')} or (S,)".replace("'", "")
        raise LayerError("ctc", f"expected labels of shape {wanted}, got {tuple(labels.shape)}")
    for what, tensor in zip(("steps", "lengths"), target[1:], strict=True):
        if tensor.shape != batch:
            shapes = f"{batch} for prediction {tuple(z.shape)}, got {tuple(tensor.shape)}"
            raise LayerError("ctc", f"expected {what} of shape {shapes}")
    return in_rows


def _in_rows(labels: Int[Tensor, " sum"], lengths: Int[Tensor, " N"]) -> Int[Tensor, "N S"]:
    """Split one row of all labels into a row for each sequence."""
    longest = len(labels)
    if all_within(lengths, 0, longest) is not None:  # they can be read
        longest, total = int(lengths.max()), int(lengths.sum())
        if total != len(labels):
            problem = f"expected {total} labels, the sum of lengths, got {len(labels)}"
            raise LayerError("ctc", problem)
    starts = lengths.cumsum(0) - lengths
    index = starts.unsqueeze(1) + torch.arange(longest, device=labels.device)
    return labels[index.clamp(max=max(len(labels) - 1, 0))]
