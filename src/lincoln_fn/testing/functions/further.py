"""What is tried at other inputs: other sizes, other dtypes, second derivatives, transforms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from attrs import evolve

from lincoln_fn.testing.diagnosis import GradientError, short
from lincoln_fn.testing.functions import trials
from lincoln_fn.testing.functions.function import Function, RefusedError
from lincoln_fn.testing.functions.value import is_derivative
from lincoln_fn.testing.oracles import error_of, size_of

# A size above a block of 1024, and no multiple of any; and one of columns, above 4096.
LONG, COLUMNS = 1031, 4099
# Sums over so many rows show whether they are kept in few digits.
ROWS, HALF = 4099, (torch.bfloat16, torch.float16)
# Of more numbers than these, no call is tried.
MOST = 20_000
# An error above this part of the largest value is told; of long sums, if few rows have less.
LARGE, OF_SUMS, TIMES = 0.05, 0.2, 8
# The error that rounding of the inputs makes may be so many times as large.
CONDITION = 16


def sizes(at: trials.Point) -> Iterator[str]:
    """Other sizes: one row, none, one more, and many."""
    is_tried = False
    for n, (old, is_last) in enumerate(trials.sizes_of(at.f).items()):
        # The first axis is the batch's, which may be empty.
        for new in dict.fromkeys((1, old + 1, LONG, *(COLUMNS,) * is_last, *(0,) * (not n))):
            if new == old or trials.numbers_at(at.f, old, new) > MOST:
                continue
            also = f", where axes of size {old} have size {new}"
            here = _called(evolve(at, f=trials.resized(at.f, old, new), also=also), at.f)
            is_tried |= here is not None
            yield from _at_size(here, is_one=new == 1) if here else ()
    if not is_tried:
        raise trials.NotTriedError("forward takes no other")


def _called(at: trials.Point, given: Function) -> trials.Point | None:
    """Call a function at another size; None if forward refuses that, or may not be determined."""
    if trials.repeats(given, at.f):
        return None
    f = trials.noisy(at.f, at.key)
    try:
        run = f.run()
    except RefusedError:
        return None
    if not all(y.requires_grad and bool(y.isfinite().all()) for y in run.y):
        return None
    return evolve(at, f=f, y=run.y, g=run.cotangent(at.key))


def _at_size(at: trials.Point, *, is_one: bool) -> Iterator[str]:
    try:
        run = at.f.run()
        at = evolve(at, grads=run.gradients(at.g))
    except GradientError as error:
        yield f"{error}{at.also}"
        return
    yield from trials.memory(at)
    if not any(y.numel() for y in at.y):
        zeros = evolve(at, grads=[torch.zeros_like(grad) for grad in at.grads])
        yield from zeros.told("with an empty y", run=run)
    # One number has no variance: there a derivative may be infinite.
    elif not is_one or all(bool(grad.isfinite().all()) for grad in at.grads):
        for finding in at.judge.of(at.f, at.key).mistakes:
            yield f"{finding.sentence.removeprefix(f'{at.f.name}: ')}{at.also}"


def own_dtype(at: trials.Point) -> Iterator[str]:
    """The dtype that was given, held against float64."""
    if at.grads[0].dtype is torch.float64 or not at.judge.is_exact:
        raise trials.NotTriedError
    for n, error in enumerate(_errors(at, at.f)):
        if error > LARGE:
            yield _of_dtype(at.f, n, error, "right in float64")


def long_sums(at: trials.Point) -> Iterator[str]:
    """Sums over many rows, in its own dtype if that has few digits, else in bfloat16.

    With g of one sign, the terms that are added become smaller than the last digit of the sum.
    """
    own, first = at.grads[0].dtype, next(iter(trials.sizes_of(at.f)), 0)
    if not first or trials.numbers_at(at.f, first, ROWS) > 2 * MOST:
        return
    f = at.f.in_dtype(own if own in HALF else torch.bfloat16)
    try:
        few, many = _errors(at, f), _errors(at, trials.resized(f, first, ROWS))
    except (RefusedError, GradientError):  # it may not take this dtype, or this size
        return
    for n, (usual, error) in enumerate(zip(few, many, strict=True)):
        if error > max(OF_SUMS, TIMES * usual):
            why = f"right for few rows: is a sum over {ROWS} rows kept in so few digits?"
            yield _of_dtype(f, n, error, why)


def _of_dtype(f: Function, n: int, error: float, why: str) -> str:
    dtype: Any = f.inputs[f.which[n]]  # Any: a tensor
    told = f"{f.leaves[n]} is wrong in {short(dtype.dtype)} by {error:.2g} of its largest value"
    return f"{told}, and {why}{f.look(n)}"


def _errors(at: trials.Point, f: Function) -> list[float]:
    """Compute the error of each gradient beside what rounding of the inputs makes."""
    run = f.run()
    g = [each.abs() for each in run.cotangent(at.key)]
    given, right = run.gradients(g), at.judge.truth(f, g)
    if right is None or any(y.dtype != leaf.dtype for y in run.y for leaf in run.leaves):
        return []
    eps = torch.finfo(given[0].dtype).eps
    nearby = at.judge.truth(trials.noisy(f.in_dtype(torch.float64), at.key, eps), g) or right
    rows = [(error_of(a, b), error_of(c, b), size_of(b) or 1.0)
            for a, b, c in zip(given, right, nearby, strict=True)]  # fmt: skip
    return [0.0 if error <= CONDITION * usual else error / size for error, usual, size in rows]


def second_derivative(at: trials.Point) -> Iterator[str]:
    """A second derivative, where backward raises no error."""
    if not at.judge.is_exact:
        raise trials.NotTriedError
    f, count = at.f.in_dtype(torch.float64), len(at.f.inputs)

    def gradients(*given: Any) -> object:  # Any: the inputs, and what is g
        values = [each if i not in which or each.requires_grad else each.detach().requires_grad_()
                  for i, each in enumerate(given)]  # fmt: skip
        with torch.enable_grad():
            y, leaves = f.outputs_of(values[:count]), [values[i] for i in f.which]
            g, options = values[count:], {"create_graph": True, "materialize_grads": True}
            return torch.autograd.grad(y, leaves, g, **options)

    g = f.run().cotangent(at.key)
    names = (*f.names, *(f"g of output {n}" for n in range(len(g))))
    which = (*f.which, *range(count, len(names)))
    twice = Function(f.name, gradients, (*f.inputs, *g), names, which, count)
    try:  # torch.autograd.grad would not reach what refuses
        torch.autograd.backward([each.sum() for each in twice.run().y if each.requires_grad])
    except Exception:  # of any kind: the code is the user's
        return
    if not is_derivative(twice, at.key):
        mend = "mark backward as @once_differentiable, or save only inputs and outputs"
        yield f"the second derivative is silently wrong: {mend}"


def vmapped(at: trials.Point) -> Iterator[str]:
    """`vmap` of it, if it declares that."""
    of: Any = getattr(at.f.call, "__self__", None)  # Any: of any kind
    plain = torch.autograd.Function
    is_function = isinstance(of, type) and issubclass(of, plain)
    if not is_function or not (of.generate_vmap_rule or of.vmap is not plain.vmap):
        raise trials.NotTriedError
    rows = [at.f.run(), trials.noisy(at.f, at.key).run()]

    def stacked(columns: Any) -> list[torch.Tensor]:  # Any: tensors, in rows
        return [torch.stack(both) for both in zip(*columns, strict=True)]

    axes = tuple(0 if i in at.f.which else None for i in range(len(at.f.inputs)))
    inputs = at.f.placed(stacked(row.leaves for row in rows))
    many = evolve(at.f, call=torch.func.vmap(at.f.call, axes), inputs=inputs)
    y, grads = stacked(row.y for row in rows), stacked(row.gradients(at.g) for row in rows)
    both = evolve(at, f=many, y=y, g=stacked([at.g, at.g]), grads=grads)
    yield from both.told("under vmap", run=many.run())


def compiled(at: trials.Point) -> Iterator[str]:
    """`torch.compile` of it, without code generation."""
    f = evolve(at.f, call=torch.compile(at.f.call, backend="aot_eager"))
    yield from evolve(at, f=f).told("under torch.compile", run=f.run())


FURTHER: Final[dict[str, trials.Trial]] = {
    "other sizes": sizes,
    "its own dtype": own_dtype,
    "vmap": vmapped,
}
# Mistakes if one asks for them; some are remarks else.
ASKED: Final[dict[str, trials.Trial]] = {
    "second derivative": second_derivative,
    "long sums": long_sums,
    "torch.compile": compiled,
}
REMARKED: Final = {"second derivative", "long sums"}
