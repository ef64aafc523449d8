from lincoln_fn.core import Elements as Elements
from lincoln_fn.losses.common.checks import (
    any_true as any_true, check_between as check_between,
    check_same_shape as check_same_shape, check_vector as check_vector,
    hard_labels as hard_labels, outside as outside, probabilities as probabilities,
    right_values as right_values, same_shape as same_shape, signs as signs,
)
from lincoln_fn.losses.common.labels import (
    Labels as Labels, label_column as label_column, read_labels as read_labels,
    total_weight as total_weight,
)
from lincoln_fn.losses.common.reduction import (
    Check as Check, Cotangent as Cotangent, Formula as Formula, SMALLEST as SMALLEST,
    Tensors as Tensors, formula_of as formula_of, loss_of as loss_of, make_loss as make_loss,
    number_of_values as number_of_values, per_example as per_example,
)
from lincoln_fn.losses.common.sums import PartSum as PartSum, sum_of as sum_of, unchecked as unchecked
from lincoln_fn.losses.example_weighted import unweighted as unweighted
from lincoln_fn.losses.loss import (
    Loss as Loss, Reduction as Reduction, check_each_alone as check_each_alone,
    check_one_number as check_one_number, mixing as mixing,
)
from lincoln_fn.losses.through import through_of as through_of
from lincoln_fn.losses.weighted import first_check as first_check, parts_of as parts_of
