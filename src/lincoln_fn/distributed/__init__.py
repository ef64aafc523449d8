"""Training on many processes, over torch.distributed: arguments and values, no hidden group."""

from lincoln_fn.distributed.data_parallel import mean
from lincoln_fn.distributed.group import Group, LostProcessError, alone, connect, world
from lincoln_fn.distributed.sync_batch_norm import sync_batch_norm

__all__ = [
    "Group",
    "LostProcessError",
    "alone",
    "connect",
    "mean",
    "sync_batch_norm",
    "world",
]
