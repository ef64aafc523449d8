from lincoln_fn.core import Elements as Elements
from lincoln_fn.losses.common.checks import *
from lincoln_fn.losses.common.labels import *
from lincoln_fn.losses.common.reduction import *
from lincoln_fn.losses.common.sums import *
from lincoln_fn.losses.example_weighted import unweighted as unweighted
from lincoln_fn.losses.loss import (
    Loss as Loss, Reduction as Reduction, check_each_alone as check_each_alone,
    check_one_number as check_one_number, mixing as mixing,
)
from lincoln_fn.losses.through import through_of as through_of
from lincoln_fn.losses.weighted import first_check as first_check, parts_of as parts_of
