from lincoln_fn.training.batch_checks import (
    check_batch as check_batch, check_example as check_example, check_unspent as check_unspent,
    check_walkable as check_walkable, copy_shared as copy_shared, count_examples as count_examples,
    is_spent as is_spent, nothing_like as nothing_like,
)
from lincoln_fn.training.data import (
    Batch as Batch, Batches as Batches, is_used_once as is_used_once,
)
from lincoln_fn.training.evaluate import check_metrics as check_metrics, evaluate as evaluate
from lincoln_fn.training.fit import fit as fit
from lincoln_fn.training.history import *
from lincoln_fn.training.protocols import (
    Compute as Compute, ComputeShards as ComputeShards, Gradient as Gradient,
    GradientState as GradientState, OfShard as OfShard, Reduce as Reduce,
)
from lincoln_fn.training.make_step import make_step as make_step
from lincoln_fn.training.metrics import Metrics as Metrics
from lincoln_fn.training.progress_display import LINE_SECONDS as LINE_SECONDS, display as display
from lincoln_fn.training.step import Step as Step, total_of as total_of
from lincoln_fn.training.step_errors import LAST as LAST
from lincoln_fn.training.train import (
    StepRecord as StepRecord, TrainState as TrainState, init_state as init_state,
)
