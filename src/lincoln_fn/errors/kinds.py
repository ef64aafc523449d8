"""Errors about arguments of the wrong type: a network, a loss, a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lincoln_fn.errors.descriptions import describe, is_function
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.errors.suggestions import suggest


def check_functions(kind: str, where: object, **functions: object) -> None:
    """Check that a layer, a loss or an optimizer is made of a name and functions.

    Args:
        kind: the class, such as "Layer".
        where: the name.
        **functions: by field.

    Raises:
        LayerError: for the first argument that is not.

    Example:
        >>> check_functions("Layer", "mine()", forward=None)
        Traceback (most recent call last):
        lincoln_fn.LayerError: mine(): expected forward to be a function, got None
    """
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
    """Check that a call has the key, and everything else that is required.

    Args:
        where: the function.
        call: how it is called, such as "net.init(lf.Key(0), x)".
        names: its required arguments in their order, the key among them.
        arguments: those given by position.
        options: those given by name.

    Raises:
        LayerError: if one is missing. A missing key is named first, wherever it stands.

    Example:
        >>> check_not_missing("init", "net.init(lf.Key(0), x)", ("key", "x"), (torch.ones(2),), {})
        Traceback (most recent call last):
        lincoln_fn.LayerError: init: expected a key and x, got no key; write \
net.init(lf.Key(0), x)
    """
    missing = [name for name in names[len(arguments) :] if name not in options]
    if not missing:
        return
    given = (*arguments, *options.values())
    if not any(type(value).__name__ == "Key" for value in given):
        missing = ["key"]
    needed = " and ".join(["a key" if name == "key" else name for name in names[-2:]])
    lacks = " and ".join(f"no {name}" for name in missing)
    raise LayerError(where, f"expected {needed}, got {lacks}; write {call}")


def wrong_kind(where: str, name: str, given: object, kind: str, order: str = "") -> LayerError:
    """Make the error about an argument of the wrong kind.

    Args:
        where: the function.
        name: the argument; "" for one that has none.
        given: what was given.
        kind: the class that was expected, or a few words such as "a mapping of metrics by name".
        order: the function's arguments in their order.

    Returns:
        The error.

    Example:
        >>> wrong_kind("fit", "key", 7, "Key")
        LayerError('fit', 'expected key to be a Key, got 7; write lf.Key(7)')
    """
    article = "an" if kind[0] in "AEIO" else "a"
    expected = kind if " " in kind else f"{article} {kind}"
    subject = f"{name} to be {expected}" if name else expected
    mend = suggest(given, kind) or (f"the order is {where}{order}" if order else "")
    # The numbers in a list, for instance, would not help the reader.
    by_type = kind == "tensor" and not mend.startswith("write")
    got = type(given).__name__ if by_type else describe(given)
    return LayerError(where, f"expected {subject}, got {got}{'; ' if mend else ''}{mend}")
