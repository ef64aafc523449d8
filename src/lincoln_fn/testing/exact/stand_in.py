"""The numpy whose new arrays are exact: it stands for numpy in the modules of a student."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from lincoln_fn.testing.exact.arrays import ExactArray, has_exact, is_floating, rows_of
from lincoln_fn.testing.exact.table import Table

MAKERS: Final = "zeros ones full eye identity zeros_like ones_like full_like copy"


# Any: what functions of numpy take and return.
def numpy_for(table: Table) -> SimpleNamespace:
    """Make the numpy whose new arrays are exact."""

    def made(function: Callable[..., Any], *how: Any, **options: Any) -> Any:
        array = function(*how, **options)
        is_plain = isinstance(array, np.ndarray) and is_floating(array)
        return ExactArray(table, rows_of(table, array)) if is_plain else array

    def array(values: Any, *how: Any, **options: Any) -> Any:
        if isinstance(values, ExactArray):
            return values.astype(*how, **options) if how or options else values.copy()
        if has_exact(values):
            return ExactArray(table, rows_of(table, values))
        return made(np.array, values, *how, **options)

    def as_array(values: Any, *how: Any, **options: Any) -> Any:
        return values if isinstance(values, ExactArray) else array(values, *how, **options)

    makers = {name: partial(made, getattr(np, name)) for name in MAKERS.split()}
    others = {
        "array": array, "empty": makers["zeros"], "empty_like": makers["zeros_like"],
        **dict.fromkeys(("asarray", "asanyarray", "ascontiguousarray"), as_array),
    }  # fmt: skip
    return SimpleNamespace(**{**vars(np), **makers, **others})
