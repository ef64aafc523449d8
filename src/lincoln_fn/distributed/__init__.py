"""Training on many processes, over torch.distributed: arguments and values, no hidden group."""

from lincoln_fn.distributed.data_parallel import mean
from lincoln_fn.distributed.directory import Directory
from lincoln_fn.distributed.fully_sharded import Sharded, fully_sharded, whole
from lincoln_fn.distributed.group import Group, LostProcessError, alone, connect, world
from lincoln_fn.distributed.sync_batch_norm import sync_batch_norm

__all__ = [
    "Directory",
    "Group",
    "LostProcessError",
    "Sharded",
    "alone",
    "connect",
    "fully_sharded",
    "mean",
    "sync_batch_norm",
    "whole",
    "world",
]
