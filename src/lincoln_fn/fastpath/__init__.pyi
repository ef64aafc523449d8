from lincoln_fn.runtime import Operation as Operation, operation as operation
from lincoln_fn.fastpath import (
    linear_scan as linear_scan, lstm as lstm, product as product,
)
from lincoln_fn.fastpath.table import (
    fast as fast, fast_by_example as fast_by_example, gives_own_tokens as gives_own_tokens,
    rearrange as rearrange,
)
from lincoln_fn.fastpath.optimizers import fast_optimizer as fast_optimizer
from lincoln_fn.fastpath.pooling import with_indices as with_indices
from lincoln_fn.fastpath.product import (
    goes_to_mkl as goes_to_mkl, is_amd_with as is_amd_with, is_narrow as is_narrow,
    onednn_is_faster as onednn_is_faster, sums_by_onednn as sums_by_onednn,
)
from lincoln_fn.fastpath.twin import Argument as Argument
