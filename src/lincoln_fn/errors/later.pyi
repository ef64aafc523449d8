from lincoln_fn.errors.habits import no_attribute as no_attribute
from lincoln_fn.errors.shapes import (
    check_cache as check_cache, check_cotangent as check_cotangent,
    check_example as check_example, check_input as check_input, check_params as check_params,
)
from lincoln_fn.errors.suggestions import suggest as suggest
from lincoln_fn.errors.suggestions_of_calls import suggest_call as suggest_call
from lincoln_fn.errors.warn import warn as warn
