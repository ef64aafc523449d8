"""Training on many processes, over torch.distributed: arguments and values, no hidden group."""

from lincoln_fn.distributed.connect import alone, connect, world
from lincoln_fn.distributed.data_parallel.mean import mean
from lincoln_fn.distributed.data_parallel.sync_batch_norm import sync_batch_norm
from lincoln_fn.distributed.grid import grid
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.lost import LostProcessError
from lincoln_fn.distributed.pipeline_parallel.measurement import Link, measure, measure_link
from lincoln_fn.distributed.pipeline_parallel.pipeline import Pipeline, pipeline
from lincoln_fn.distributed.pipeline_parallel.plan import Plan, plan
from lincoln_fn.distributed.pipeline_parallel.schedule_check import check_schedule
from lincoln_fn.distributed.pipeline_parallel.schedules import (
    Action,
    Schedule,
    gpipe,
    one_f_one_b,
    zero_bubble_h1,
    zero_bubble_h2,
)
from lincoln_fn.distributed.pipeline_parallel.scores import scores
from lincoln_fn.distributed.pipeline_parallel.simulation import Interval, Times, simulate
from lincoln_fn.distributed.pipeline_parallel.split_into_stages import split_into_stages
from lincoln_fn.distributed.sharding.clip_by_global_norm import clip_by_global_norm
from lincoln_fn.distributed.sharding.directory import Directory
from lincoln_fn.distributed.sharding.fully_sharded import fully_sharded
from lincoln_fn.distributed.sharding.sharded_params import Sharded, whole
from lincoln_fn.distributed.tensor_parallel.column_parallel import column_parallel
from lincoln_fn.distributed.tensor_parallel.divided import join, split
from lincoln_fn.distributed.tensor_parallel.parallel_attention import parallel_attention
from lincoln_fn.distributed.tensor_parallel.parallel_dropout import parallel_dropout
from lincoln_fn.distributed.tensor_parallel.parallel_tied import parallel_tied
from lincoln_fn.distributed.tensor_parallel.parallel_transformer import parallel_encoder_block
from lincoln_fn.distributed.tensor_parallel.row_parallel import row_parallel
from lincoln_fn.distributed.tensor_parallel.vocab_parallel_embedding import vocab_parallel_embedding

__all__ = [
    "Action",
    "Directory",
    "Group",
    "Interval",
    "Link",
    "LostProcessError",
    "Pipeline",
    "Plan",
    "Schedule",
    "Sharded",
    "Times",
    "alone",
    "check_schedule",
    "clip_by_global_norm",
    "column_parallel",
    "connect",
    "fully_sharded",
    "gpipe",
    "grid",
    "join",
    "mean",
    "measure",
    "measure_link",
    "one_f_one_b",
    "parallel_attention",
    "parallel_dropout",
    "parallel_encoder_block",
    "parallel_tied",
    "pipeline",
    "plan",
    "row_parallel",
    "scores",
    "simulate",
    "split",
    "split_into_stages",
    "sync_batch_norm",
    "vocab_parallel_embedding",
    "whole",
    "world",
    "zero_bubble_h1",
    "zero_bubble_h2",
]
