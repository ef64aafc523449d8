"""What to write instead of a call with an unknown keyword, or with too many arguments."""

from __future__ import annotations

from difflib import get_close_matches
from inspect import Parameter, Signature
from typing import Final

from lincoln_fn.errors.annotations import ByName, Given

_NO_MASK: Final = "prompts of one length in each call, since generate has no mask of padding"

# By the keywords of other libraries: ours, and what to write.
_OURS: Final = {
    "attention_mask": ("prompt", _NO_MASK),
    "learning_rate": ("lr", "lr"),
    "mask": ("prompt", _NO_MASK),
    "params": ("state", "state=lf.init_state(net, optimizer, key, x, params=params)"),
    "random_state": ("key", "key=lf.Key(seed)"),
    "rank": ("r", "r"),
    "seed": ("key", "key=lf.Key(seed)"),
    "shuffle": ("key", "key=lf.Key(seed), which shuffles"),
    "verbose": ("progress", "progress"),
    "validation_data": ("valid", "valid"),
}


def suggest_call(function: str, signature: Signature, args: Given, kwargs: ByName) -> str:
    """Find what to write in place of a call that does not fit, or "" if nothing is known."""
    known = signature.parameters
    for keyword in kwargs:
        if keyword in known or any(each.kind is each.VAR_KEYWORD for each in known.values()):
            continue
        ours, text = _OURS.get(keyword, ("", ""))
        if ours in known:
            return f"write {text}"
        close = get_close_matches(keyword, known, n=1)
        return f"did you mean {close[0]}?" if close else ""
    places = [each for each in known.values() if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
    if len(args) <= len(places) or any(each.kind is each.VAR_POSITIONAL for each in known.values()):
        return ""
    # A default has no place in the order that a call must have.
    order = ", ".join(place.name for place in places)
    pair = "; data is one tuple, (x, target)" if "data" in known else ""
    return f"the order is {function}({order}){pair}"
