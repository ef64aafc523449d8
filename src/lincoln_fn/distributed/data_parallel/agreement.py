"""What all processes must have in common, compared before anything else is sent, and their errors.

Each process sends a few numbers that identify its batch, its step and its network. If one differs,
each also sends a description, and all raise the same error. After the passes of a step each sends
whether it has an error, and all raise the first one.

An agreement has the same size wherever it is called. So processes that are not at the same place
find that out, too: torch ends a process that receives another size than it expects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from lincoln_fn.core import LayerError, Params, checksum, tree, unexpected
from lincoln_fn.distributed.data_parallel.sharded_params import find_sharded_leaves
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.lost import ENCODED, decode, encode
from lincoln_fn.training import Batch

_LONGEST: Final = 400  # characters of a description
_NUMBERS: Final = 8  # that each process sends in an agreement
_NO_ERROR: Final = 2**62  # the place of what is no error


def rows_of_all(
    where: str, group: Group, params: Params, batch: Batch, step: Tensor, name: str
) -> list[int]:
    """Check that all processes take the same step, and count their examples."""
    leaves = tree.leaves(batch)
    rows = leaves[0].shape[0] if leaves[0].ndim else 0
    if group.size == 1:
        return [rows]
    number = int(step)
    sliced = {i for positions, _ in find_sharded_leaves(params) for i in positions}
    first = [leaf for i, leaf in enumerate(tree.leaves(params)) if number == 0 and i not in sliced]
    described = {
        "batches with examples": ", ".join(_kind(leaf) for leaf in leaves),
        "steps": f"step {number} of {name}",
        "parameters": "; ".join(_kind(leaf, 0) for leaf in first),
        "parameters with numbers": f"those of checksum {checksum(first)}",
    }
    return check_same(where, group, described, rows)


def check_same(
    where: str, group: Group, described: Mapping[str, str], number: int = 0
) -> list[int]:
    """Check that descriptions are the same in all processes, and collect a number of each."""
    if group.size == 1:
        return [number]
    described = {"calls": f"{where}: {', '.join(described)}", **described}
    digests = [blake2b(text.encode(), digest_size=8).digest() for text in described.values()]
    own = [number, *(int.from_bytes(each, "little", signed=True) for each in digests)]
    own += [0] * (_NUMBERS - len(own))
    everyone = group.gather(torch.tensor(own, device=_device(group))).cpu()
    for column, (what, text) in enumerate(described.items(), 1):
        if (everyone[:, column] != everyone[0, column]).any():
            texts = _texts(group, text, _LONGEST)
            given = "; ".join(f"rank {rank}: {each}" for rank, each in enumerate(texts))
            raise unexpected(where, f"the same {what} in all processes", given)
    numbers: list[int] = everyone[:, 0].tolist()
    return numbers


def first_error(
    group: Group, error: Exception | None, place: int = 0
) -> tuple[Exception | None, int]:
    """Return, in all processes, the error of the lowest place, and of the lowest rank there."""
    place = _NO_ERROR if error is None else place
    if group.size == 1:
        return error, place
    places = check_same("step", group, {"outcomes": ""}, place)
    first = min(places)
    if first == _NO_ERROR:
        return None, first
    rank = places.index(first)
    text = "" if error is None else json.dumps(encode(error, group.rank))
    sent = decode(*json.loads(_texts(group, text, ENCODED)[rank]))
    if rank == group.rank and error is not None and not isinstance(error, LayerError):
        return error, first
    if isinstance(sent, LayerError) and max(places) > first:
        sent = type(sent)(sent.where, f"{sent.problem}, in rank {group.ranks[rank]}")
    return sent, first


def _device(group: Group) -> torch.device:
    """Return a device whose tensors can be sent: nccl alone sends none of the CPU."""
    try:
        of_backend = str(dist.get_backend_config(group.handle))
    except TypeError:  # the group is closed, which `gather` says
        of_backend = "cpu"
    return torch.device("cpu" if "cpu" in of_backend else "cuda")


def _kind(leaf: Tensor, first: int = 1) -> str:
    sizes = ", ".join(map(str, leaf.shape[first:]))
    return f"({sizes}) of {str(leaf.dtype).removeprefix('torch.')}"


def _texts(group: Group, text: str, size: int) -> list[str]:
    padded = text.encode()[:size].ljust(size)
    rows = group.gather(torch.tensor(list(padded), dtype=torch.uint8, device=_device(group)))
    return [bytes(row.tolist()).decode(errors="replace").strip() for row in rows.cpu()]
