"""The table of the bugs: what the check of functions says of each, and what gradcheck says.

`python -m helpers.functions.table`, run in `tests`, prints it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, gradcheck
from torch.autograd.gradcheck import GradcheckError

from helpers.functions.pair import Pair, function


def called(pair: Pair, fixed: bool) -> Callable[..., Any]:
    """Give the function that torch differentiates; of a pair in numpy, one made of it."""
    made = pair.make(fixed)
    if isinstance(made, tuple):
        made = _of_numpy(*made)
    return made.apply if isinstance(made, type) and issubclass(made, Function) else made


def _of_numpy(forward: Callable[..., Any], backward: Callable[..., Any]) -> type[Function]:
    def there(ctx, *inputs):
        y, ctx.saved = forward(*(x.detach().numpy() for x in inputs))
        return torch.from_numpy(y)

    def back(ctx, g):
        return tuple(map(torch.from_numpy, backward(ctx.saved, g.numpy())))

    return function(there, back)


def by_gradcheck(pair: Pair, fixed: bool) -> str:
    """Say what gradcheck says, in float64, as it asks; "" if it passes."""
    inputs = [x.to(torch.float64) if _floats(x) else x for x in pair.fresh()]
    try:
        gradcheck(called(pair, fixed), inputs)
    except (GradcheckError, RuntimeError) as error:
        return str(error).strip().partition("\n")[0]
    return ""


def _floats(x: object) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()
