"""How a public name is retired: it works for a while, and warns of what takes its place."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def retired(*, since: str, until: str, use: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Retire a function: each call works, and warns.

    Args:
        since: the version in which it was retired.
        until: the version in which it will be gone.
        use: what to write in its place, such as "lf.dense".

    Returns:
        The decorator.

    Example:
        >>> @retired(since="1.1", until="2.0", use="abs")
        ... def magnitude(x):
        ...     return abs(x)
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     print(magnitude(-3), "and", caught[0].message)
        3 and magnitude is retired since 1.1 and gone in 2.0; use abs
    """

    def retire(function: Callable[P, R]) -> Callable[P, R]:
        message = f"{function.__name__} is retired since {since} and gone in {until}; use {use}"

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        call.__doc__ = (
            f"Retired since {since}, gone in {until}: use {use}.\n\n{function.__doc__ or ''}"
        )
        return call

    return retire
