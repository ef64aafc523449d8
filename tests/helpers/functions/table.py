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


def rows() -> list[tuple[Pair, str, str]]:
    """Give of each bug the sentence that names it, and what gradcheck says."""
    found = []
    for pair in PAIRS:
        told = said(pair, False)
        named = [line for line in told.split("\n") if re.search(pair.says, line)]
        found.append((pair, (named or [told])[0], by_gradcheck(pair, False)))
    return found


def table() -> str:
    """Write the table, in Markdown."""
    lines = ["| bug | what the check says | gradcheck |", "| --- | --- | --- |"]
    for pair, sentence, by_other in rows():
        repository, _, number = pair.source.partition("#")
        link = f"[{pair.source}](https://github.com/{repository}/issues/{number})"
        # Lines of these files move.
        sentence = re.sub(r" \(line \d+(: .*)?\)(?=$|, where)", "", sentence.partition(": ")[2])
        sentence = re.sub(r"\bline \d+", "line N", sentence).replace("|", "\\|")
        name = pair.name.replace("_", " ")
        verdict = "found" if by_other else "passes"
        lines.append(f"| {link}: {name} | {sentence or 'not found'} | {verdict} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
