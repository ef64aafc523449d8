"""Calls that do not fit: in torch's order, with an unknown keyword, with too many arguments.

torch's order begins with the input's size. Here x gives that size.

    lf.conv2d(1, 8, 3)    torch: 1 channel in, 8 out, a kernel of 3; here: 1 out, a kernel of 8, ...

Such a call may run and compute something else. So positional arguments are checked where a
constructor of this library takes other sizes in the same positions. They are refused if they are
likely to be in torch's order. Pass them by name to use them as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from difflib import get_close_matches
from inspect import Parameter, Signature
from typing import Final, NamedTuple

from lincoln_fn.errors.annotations import ByName, Given
from lincoln_fn.errors.errors import unexpected


class Order(NamedTuple):
    """How torch orders a constructor's arguments, and how this library does."""

    theirs: tuple[str, ...]  # torch's arguments
    ours: tuple[str, ...]  # our arguments in the same places
    kept: slice  # which of torch's arguments this library has, too
    # whether positional arguments are likely to be in torch's order
    is_likely: Callable[[Given], bool] = lambda args: False


def _no_kernel(args: Given) -> bool:
    """Return whether (out_channels, kernel_size, stride) are unlikely values for these names."""
    # A kernel is as large as its stride or larger, and if it is larger than 4, odd and not above
    # 11.
    numbers = args[:3]
    if len(numbers) < 3 or not all(type(number) is int and number > 0 for number in numbers):
        return False
    _, kernel, stride = numbers
    if kernel == stride:
        return False
    if kernel <= 4:
        return bool(stride > max(kernel, 2) or (kernel, stride) == (4, 3))
    return bool(kernel % 2 == 0 or kernel > 11 or stride > kernel)


def _exceeds(place: int, most: float) -> Callable[[Given], bool]:
    def is_likely(args: Given) -> bool:
        number = args[place] if len(args) > place else None
        return isinstance(number, int | float) and number > most

    return is_likely


def _fewer_features_than_heads(args: Given) -> bool:
    sizes = args[:2]
    is_two = len(sizes) == 2 and all(type(size) is int for size in sizes)
    return is_two and bool(sizes[1] < sizes[0])


_CONV: Final = Order(
    ("in_channels", "out_channels", "kernel_size"),
    ("out_channels", "kernel_size", "stride"),
    slice(1, 3),
    _no_kernel,
)
_RECURRENT: Final = Order(
    ("input_size", "hidden_size"), ("hidden_size", "num_layers"), slice(1, 2), _exceeds(1, 16)
)
_CELL: Final = Order(("input_size", "hidden_size"), ("hidden_size", "bias"), slice(1, 2))
_NORM: Final = Order(("num_features",), ("eps",), slice(0), _exceeds(0, 0.999))
_BLOCK: Final = Order(
    ("d_model", "nhead"), ("num_heads", "dim_feedforward"), slice(1, 2), _fewer_features_than_heads
)
ORDERS: Final[dict[str, Order]] = {
    **{f"conv{n}d": _CONV for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _CONV for n in (1, 2, 3)},
    "dense": Order(("in_features", "out_features"), ("n_out",), slice(1, 2)),
    "bilinear": Order(("in1_features", "in2_features", "out_features"), ("out_features",),
        slice(2, 3)),
    "multi_head_attention": Order(("embed_dim", "num_heads"), ("num_heads",), slice(1, 2)),
    "batch_norm": _NORM,
    "instance_norm": _NORM,
    "group_norm": Order(("num_groups", "num_channels"), ("num_groups", "eps"), slice(1),
        _exceeds(1, 0.999)),
    **dict.fromkeys(("rnn", "gru", "lstm"), _RECURRENT),
    **dict.fromkeys(("rnn_cell", "gru_cell", "lstm_cell"), _CELL),
    **dict.fromkeys(("transformer_encoder_block", "transformer_decoder_block"), _BLOCK),
}  # fmt: skip


# By the keywords of other libraries: ours, and what to write.
_OURS: Final = {
    "attention_mask": ("prompt", "prompts of one length in each call, which have no padding"),
    "learning_rate": ("lr", "lr"),
    "mask": ("attention_mask", "attention_mask"),
    "params": ("state", "state=lf.init_state(net, optimizer, key, x, params=params)"),
    "random_state": ("key", "key=lf.Key(seed)"),
    "rank": ("r", "r"),
    "seed": ("key", "key=lf.Key(seed)"),
    "shuffle": ("key", "key=lf.Key(seed), which shuffles"),
    "verbose": ("progress", "progress"),
    "validation_data": ("valid", "valid"),
}


def check_order(constructor: str, args: Given) -> None:
    """Check that positional arguments are not likely to be in torch's order."""
    order = ORDERS.get(constructor)
    if order is None or not order.is_likely(args):
        return
    *before, last = order.ours
    given = ", ".join(map(str, args[: len(order.ours)]))
    named = ", ".join([*map(str, args[: len(before)]), f"{last}={args[len(before)]}"])
    mend = f"{_in_our_order(constructor, args)}; if {last} is meant, write {constructor}({named})"
    raise unexpected(constructor, f"({', '.join(order.ours)})", f"({given})", mend)


def _in_our_order(constructor: str, args: Given, unknown: Set[str] = frozenset()) -> str:
    """Say what to write for arguments in torch's order, or "" if that is ours.

    `unknown`: the keywords that the constructor does not have. If none is torch's, they are what is
    wrong, and not the order.
    """
    order = ORDERS.get(constructor)
    if order is None or (unknown and unknown.isdisjoint(order.theirs)):
        return ""
    are_sizes = len(args) >= len(order.theirs) and all(type(arg) is int for arg in args)
    kept = (args if are_sizes else order.theirs)[order.kept]
    call = f"{constructor}({', '.join(map(str, kept))})"
    return f"the sizes of the input come from x: torch's ({', '.join(order.theirs)}) is {call}"


def suggest_call(function: str, signature: Signature, args: Given, kwargs: ByName) -> str:
    """Find what to write in place of a call that does not fit, or "" if nothing is known."""
    known = signature.parameters
    unknown = [keyword for keyword in kwargs if keyword not in known]
    if mend := _in_our_order(function, args, {*unknown}):
        return mend
    kinds = {each.kind for each in known.values()}
    if unknown and Parameter.VAR_KEYWORD not in kinds:
        ours, text = _OURS.get(unknown[0], ("", ""))
        if ours in known:
            return f"write {text}"
        close = get_close_matches(unknown[0], known, n=1)
        return f"did you mean {close[0]}?" if close else ""
    places = [each for each in known.values() if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
    if len(args) <= len(places) or Parameter.VAR_POSITIONAL in kinds:
        return ""
    # A default has no place in the order that a call must have.
    order = ", ".join(place.name for place in places)
    pair = "; data is one tuple, (x, target)" if "data" in known else ""
    return f"the order is {function}({order}){pair}"
