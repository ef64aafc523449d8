"""What an operation is for: a mean is subtracted, a variance goes into a square root."""

from __future__ import annotations

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.tape import Tape

_PASSED = ("add", "getitem", "clamp", "clamp_min", "reshape", "view", "unsqueeze", "squeeze", "to")
_ROOTS = ("sqrt", "rsqrt", "pow")
_REDUCTIONS = ("mean", "sum")


def name_role(tape: Tape, call: Call) -> str:
    """Return "mean" or "variance" for such a mean or sum, and the call's own name for all else."""
    if call.name in ("var", "std"):
        return "variance"
    if call.name not in _REDUCTIONS:
        return call.name
    users = _users(tape, call)
    for _ in range(3):
        if any(user.name in _ROOTS for user in users):
            return "variance"
        passed = [user for user in users if user.name in (*_PASSED, "div", "mul", *_REDUCTIONS)]
        if call.name == "mean" and any(user.name == "sub" for user in users):
            return "mean"
        users = [later for user in passed for later in _users(tape, user)]
    return call.name


def _users(tape: Tape, call: Call) -> list[Call]:
    outputs = {id(out) for out in call.outputs}
    return [user for user in tape.calls if any(id(u) in outputs for u in user.inputs)]
