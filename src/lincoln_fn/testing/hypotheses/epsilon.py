"""An eps of forward that backward leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.overrides import TorchFunctionMode

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis

LARGEST = 1e-2
_ADDITIONS = ("add", "__add__", "__radd__", "__iadd__", "add_")


class _WithoutEps(TorchFunctionMode):
    """Adds 0 in place of any small number."""

    # Any: of every function of torch.
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch."""
        if getattr(func, "__name__", "") in _ADDITIONS:
            args = tuple(0.0 if _is_eps(value) else value for value in args)
        options = dict(kwargs or {})
        if _is_eps(options.get("eps")):
            options["eps"] = 0.0
        return func(*args, **options)


def _is_eps(value: object) -> bool:
    return isinstance(value, float) and 0 < value <= LARGEST


def _leave_out(evidence: Evidence) -> Iterator[Guess]:
    with _WithoutEps():
        found = evidence.gradients(list(evidence.sample.arrays))
    yield Guess([*found])


HYPOTHESES = [Hypothesis("eps missing", "leaves out the eps", _leave_out, Cost.FORMULA)]
