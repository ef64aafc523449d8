"""What all processes must have in common in a step, compared before anything else is sent.

Each process sends a few numbers that identify its batch, its step and its network. If one differs,
each also sends a description, and all raise the same error.
"""

from __future__ import annotations

from hashlib import blake2b

import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.checksum import checksum
from lincoln_fn.core.layer import Params
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.sharding.sharded_params import find_sharded_leaves
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.training.data import Batch

_LONGEST = 400  # characters of a description


def rows_of_all(
    where: str, group: Group, params: Params, batch: Batch, step: Tensor, name: str
) -> list[int]:
    """Check that all processes take the same step, and count their examples."""
    leaves = tree.leaves(batch)
    rows = leaves[0].shape[0] if leaves[0].ndim else 0
    if group.size == 1:
        return [rows]
    number = int(step)
    first = _list_whole_leaves(params) if number == 0 else []
    described = {
        "batches with examples": ", ".join(_kind(leaf) for leaf in leaves),
        "steps": f"step {number} of {name}",
        "parameters": "; ".join(_kind(leaf, 0) for leaf in first),
        "parameters with numbers": f"those of checksum {checksum(first)}",
    }
    own, device = torch.tensor([rows, *map(_digest, described.values())]), leaves[0].device
    everyone = group.gather(own.to(device)).cpu()
    for column, (what, text) in enumerate(described.items(), 1):
        if (everyone[:, column] != everyone[0, column]).any():
            texts = _texts(group, text, device)
            given = "; ".join(f"rank {rank}: {each}" for rank, each in enumerate(texts))
            raise LayerError(where, f"expected the same {what} in all processes, got {given}")
    counts: list[int] = everyone[:, 0].tolist()
    return counts


def _list_whole_leaves(params: Params) -> list[Tensor]:
    sliced = {i for positions, _ in find_sharded_leaves(params) for i in positions}
    return [leaf for i, leaf in enumerate(tree.leaves(params)) if i not in sliced]


def _kind(leaf: Tensor, first: int = 1) -> str:
    sizes = ", ".join(map(str, leaf.shape[first:]))
    return f"({sizes}) of {str(leaf.dtype).removeprefix('torch.')}"


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def _texts(group: Group, text: str, device: torch.device) -> list[str]:
    """Collect a description of each process."""
    padded = text[:_LONGEST].encode()[:_LONGEST].ljust(_LONGEST)
    rows = group.gather(torch.tensor(list(padded), dtype=torch.uint8, device=device))
    return [bytes(row.tolist()).decode(errors="replace").strip() for row in rows.cpu()]
