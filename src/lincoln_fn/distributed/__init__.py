"""Training on many processes, over torch.distributed: arguments and values, no hidden group."""

from lincoln_fn.distributed.clip_by_global_norm import clip_by_global_norm
from lincoln_fn.distributed.data_parallel import mean
from lincoln_fn.distributed.directory import Directory
from lincoln_fn.distributed.fully_sharded import Sharded, fully_sharded, whole
from lincoln_fn.distributed.grid import grid
from lincoln_fn.distributed.group import Group, LostProcessError, alone, connect, world
from lincoln_fn.distributed.sync_batch_norm import sync_batch_norm
from lincoln_fn.distributed.tensor_parallel.column_parallel import column_parallel
from lincoln_fn.distributed.tensor_parallel.divided import join, split
from lincoln_fn.distributed.tensor_parallel.parallel_attention import parallel_attention
from lincoln_fn.distributed.tensor_parallel.parallel_dropout import parallel_dropout
from lincoln_fn.distributed.tensor_parallel.parallel_tied import parallel_tied
from lincoln_fn.distributed.tensor_parallel.parallel_transformer import parallel_encoder_block
from lincoln_fn.distributed.tensor_parallel.row_parallel import row_parallel
from lincoln_fn.distributed.tensor_parallel.vocab_parallel_embedding import vocab_parallel_embedding

__all__ = [
    "Directory",
    "Group",
    "LostProcessError",
    "Sharded",
    "alone",
    "clip_by_global_norm",
    "column_parallel",
    "connect",
    "fully_sharded",
    "grid",
    "join",
    "mean",
    "parallel_attention",
    "parallel_dropout",
    "parallel_encoder_block",
    "parallel_tied",
    "row_parallel",
    "split",
    "sync_batch_norm",
    "vocab_parallel_embedding",
    "whole",
    "world",
]
