"""Tensors of exact numbers, on which code of torch runs as it is.

A tensor's float64 elements are the numbers of rows in a table of its space. Whatever moves
elements, such as a view, a gather or a copy into a slice, is torch's own operation on these; row 0
is the number 0, so that padding and zeros are right, too. What computes reads the rows, and adds
new ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from lincoln_fn.testing.exact.field import Field
from lincoln_fn.testing.exact.operations import handler
from lincoln_fn.testing.exact.store import Exact, MissingError, Operation, Store


class Space(Store, TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Where exact numbers live: while it is active, floating tensors that are made are exact.

    Args:
        field: what they are numbers of.
    """

    def __init__(self, field: Field) -> None:
        TorchDispatchMode.__init__(self)  # type: ignore[no-untyped-call]  # torch's
        Store.__init__(self, field)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler for a mode that nothing compiled meets."""
        return False

    def __torch_dispatch__(
        self, func: Operation, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one of torch's operations on exact numbers."""
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if not any(isinstance(each, Exact) for each in _tensors((args, kwargs))):
            with no_dispatch():
                made = func(*args, **kwargs)
                return self._each(made.zero_() if "empty" in name else made)
        run = handler(name.rstrip("_"))
        if run is None:
            with self:
                made = func.decompose(*args, **kwargs)
                if made is NotImplemented:
                    # Its import takes as long as torch's own.
                    from torch._decomp import decomposition_table

                    made = decomposition_table.get(func, func.decompose)(*args, **kwargs)
            if made is not NotImplemented:
                return made
            raise MissingError(f"{func} has no rule for exact numbers")
        with no_dispatch(), np.errstate(all="ignore"):
            return run(self, func, args, kwargs)

    def _each(self, made: Any) -> Any:  # Any: what torch returns
        if isinstance(made, tuple | list):
            return type(made)(map(self._each, made))
        return self.lifted(made) if isinstance(made, Tensor) else made


def _tensors(given: Any) -> list[Tensor]:  # Any: arguments of an operation
    if isinstance(given, Tensor):
        return [given]
    if isinstance(given, dict):
        given = tuple(given.values())
    if isinstance(given, tuple | list):
        return [leaf for each in given for leaf in _tensors(each)]
    return []
