from lincoln_fn.runtime.log import LOG as LOG, log_if_slow as log_if_slow, watch_pace as watch_pace
from lincoln_fn.runtime.on_meta import (
    VARIABLE as VARIABLE, content_of as content_of, defer_compiler as defer_compiler,
    make_cache_folder as make_cache_folder, temporary_folder as temporary_folder,
)
from lincoln_fn.runtime.operations import (
    Operation as Operation, RunsHere as RunsHere, eigh as eigh, losses_of as losses_of,
    operation as operation, runs_here as runs_here, svd as svd, when_due as when_due,
)
from lincoln_fn.runtime.process import (
    adapt_waiting as adapt_waiting, count_cores as count_cores, current_shell as current_shell,
    in_notebook as in_notebook, load_forward_mode as load_forward_mode, precision as precision,
    share_cores as share_cores,
)
