from lincoln_fn.core.checks import (
    check_cache as check_cache, check_cotangent as check_cotangent,
    check_example as check_example, check_input as check_input, check_params as check_params,
)
from lincoln_fn.errors.suggestions import no_attribute as no_attribute, suggest as suggest
