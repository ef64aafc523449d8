from lincoln_fn.distributed.group import (
    Group as Group, alone as alone, connect as connect, grid as grid, world as world,
)
from lincoln_fn.distributed.data_parallel.directory import Directory as Directory
from lincoln_fn.distributed.data_parallel.mean import mean as mean
from lincoln_fn.distributed.data_parallel.sharded_params import (
    Sharded as Sharded, clip_by_global_norm as clip_by_global_norm, fully_sharded as fully_sharded,
    whole as whole,
)
from lincoln_fn.distributed.data_parallel.synchronised import sync_batch_norm as sync_batch_norm
from lincoln_fn.distributed.lost import LostProcessError as LostProcessError
from lincoln_fn.distributed.pipeline_parallel.pipeline import (
    Pipeline as Pipeline, pipeline as pipeline,
)
from lincoln_fn.distributed.pipeline_parallel.schedules import (
    Action as Action, Schedule as Schedule, check_schedule as check_schedule, gpipe as gpipe,
    one_f_one_b as one_f_one_b, zero_bubble_h1 as zero_bubble_h1, zero_bubble_h2 as zero_bubble_h2,
)
from lincoln_fn.distributed.pipeline_parallel.stages import scores as scores
from lincoln_fn.distributed.tensor_parallel.collectives import join as join, split as split
from lincoln_fn.distributed.tensor_parallel.parallel_attention import (
    parallel_attention as parallel_attention,
)
from lincoln_fn.distributed.tensor_parallel.parallel_dense import (
    column_parallel as column_parallel, parallel_dropout as parallel_dropout,
    row_parallel as row_parallel,
)
from lincoln_fn.distributed.tensor_parallel.parallel_transformer import *
from lincoln_fn.distributed.tensor_parallel.vocab_parallel_embedding import (
    parallel_tied as parallel_tied, vocab_parallel_embedding as vocab_parallel_embedding,
)
