"""The table of the bugs: what the check of functions says of each, and what gradcheck says.

`python -m helpers.functions.table`, run in `tests`, prints it.
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, gradcheck
from torch.autograd.gradcheck import GradcheckError

import lincoln_fn as lf
from helpers.functions import PAIRS
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


def report(pair: Pair, fixed: bool) -> Any:
    """Check one of a pair, and try everything."""
    made = pair.make(fixed)
    if isinstance(made, tuple):
        arrays = [x.detach().numpy() for x in pair.fresh()]
        return lf.testing.check_vjp(*made, *arrays, all=True)
    return lf.testing.check_function(
        made, *pair.fresh(), reference=pair.reference, all=True, **pair.options
    )


def said(pair: Pair, fixed: bool) -> str:
    """Give the sentences about what is wrong."""
    return "\n".join(mistake.sentence for mistake in report(pair, fixed).mistakes)


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


def table() -> str:
    """Write the table, in Markdown."""
    lines = ["| bug | what the check says | gradcheck |", "| --- | --- | --- |"]
    found = {"check": 0, "named": 0, "gradcheck": 0, "after": 0, "gradcheck after": 0}
    for pair in PAIRS:
        told, by_other = said(pair, False), by_gradcheck(pair, False)
        sentence = next((s for s in told.split("\n") if re.search(pair.says, s)), told)
        found["check"] += bool(told)
        found["named"] += bool(re.search(pair.says, told))
        found["gradcheck"] += bool(by_other)
        found["after"] += not said(pair, True)
        found["gradcheck after"] += not by_gradcheck(pair, True)
        # Lines of these files move; code between bars would end a cell.
        sentence = re.sub(r" \(line \d+.*\)", "", sentence.partition(": ")[2]).replace("|", "\\|")
        owner, _, number = pair.source.partition("#")
        link = f"[{pair.source}](https://github.com/{owner}/issues/{number})"
        name = pair.name.replace("_", " ")
        lines.append(f"| {link}: {name} | {sentence or 'not found'} | {by_other or 'passes'} |")
    return "\n".join([*lines, "", str(found)])


if __name__ == "__main__":
    print(table())
