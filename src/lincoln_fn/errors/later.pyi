from lincoln_fn.core.values import (
    check_cache as check_cache, check_cotangent as check_cotangent,
    check_example as check_example, check_input as check_input, check_params as check_params,
)
from lincoln_fn.errors.calls import check_order as check_order, suggest_call as suggest_call
from lincoln_fn.errors.errors import (
    check_functions as check_functions, check_not_missing as check_not_missing,
    check_pair as check_pair, wrong_kind as wrong_kind,
)
from lincoln_fn.errors.descriptions import no_attribute as no_attribute, suggest as suggest
