"""Errors about arguments that are not what was expected, such as one of the wrong type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from lincoln_fn.errors import later
from lincoln_fn.errors.descriptions import describe, is_function
from lincoln_fn.errors.errors import LayerError, unexpected

_PAIRS: Final = {
    "forward": "(y, cache)",
    "backward": "(dx, dparams)",
    "update": "(params, state)",
    "loss.forward": "(value, cache)",
}


def check_functions(kind: str, where: object, **functions: object) -> None:
    """Check that a layer, a loss or an optimizer is made of a name and functions."""
    if not isinstance(where, str):
        raise wrong_kind(kind, "name", where, "the code that makes it")
    for name, function in functions.items():
        if not is_function(function):
            raise wrong_kind(where, name, function, "a function")


def check_not_missing(
    where: str,
    call: str,
    names: Sequence[str],
    arguments: tuple[object, ...],
    options: Mapping[str, object],
) -> None:
    """Check that a call has the key, and everything else that is required."""
    # A missing key is named first, wherever it stands in `names`.
    missing = [name for name in names[len(arguments) :] if name not in options]
    if not missing:
        return
    given = (*arguments, *options.values())
    if not any(type(value).__name__ == "Key" for value in given):
        missing = ["key"]
    needed = " and ".join(["a key" if name == "key" else name for name in names[-2:]])
    lacks = " and ".join(f"no {name}" for name in missing)
    raise unexpected(where, needed, lacks, f"write {call}") from None


def check_pair(where: str, function: str, given: object) -> None:
    """Check that a layer's forward or backward, a loss's, or an update, has returned a pair."""
    if problem := describe_non_pair(function, given):
        raise LayerError(where, problem)


def describe_non_pair(function: str, given: object) -> str:
    """Say what a function has returned in place of a pair, or "" for a pair."""
    # A tensor with two rows can be unpacked like a pair, too.
    if isinstance(given, tuple) and len(given) == 2:
        return ""
    of = f" of {len(given)}" if isinstance(given, tuple) else ""
    function, pair = function.rpartition(".")[2], _PAIRS[function]
    return f"expected {function} to return {pair}, got a {type(given).__name__}{of}"


def wrong_kind(where: str, name: str, given: object, kind: str, order: str = "") -> LayerError:
    """Make the error about an argument of the wrong kind."""
    # `kind`: a class, or a few words. `order`: the function's arguments in their order.
    article = "an" if kind[0] in "AEIO" else "a"
    expected = kind if " " in kind else f"{article} {kind}"
    subject = f"{name} to be {expected}" if name else expected
    mend = later.suggest(given, kind) or (f"the order is {where}{order}" if order else "")
    # The numbers in a list, for instance, would not help the reader.
    by_type = kind == "tensor" and not mend.startswith("write")
    got = type(given).__name__ if by_type else describe(given)
    return unexpected(where, subject, got, mend)
