"""What is tried of an `autograd.Function`: each row has a wrong backward and a right one.

What a bug of a public history shows has no row here: see test_functions_public.py.
"""

from functools import reduce

import attrs
import pytest
import torch
from helpers import normal
from helpers.functions.pair import product
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lincoln_fn.testing import GradientError, check_function

X, W = normal(4, 8).float(), normal(8, seed=1).float()


class Scale(Function):
    """The right one: y = x w."""

    forward = staticmethod(product)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w, (g * x).sum(0)


# What functions keep outside of ctx.
KEPT = []


def scale(backward, forward=Scale.forward, **attributes):
    """Make a function with another backward."""
    functions = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Mine", (Function,), functions | attributes)


def writes_into_g(ctx, g):
    x, w = ctx.saved_tensors
    dw = (g * x).sum(0)
    g.mul_(w)
    return g, dw


def writes_into_its_own(ctx, g):
    x, w = ctx.saved_tensors
    dx = g.clone()
    dx.mul_(w)
    return dx, (g * x).sum(0)


def writes_into_x(ctx, g):
    x, w = ctx.saved_tensors
    dx = g * w
    x.mul_(g)
    return dx, x.sum(0)


def saves_a_product(ctx, x, w):
    ctx.save_for_backward(w, x * 1)
    return x * w


def writes_into_what_is_saved(ctx, g):
    w, product = ctx.saved_tensors
    product.data.mul_(g)
    return g * w, product.sum(0)


def reads_what_is_saved(ctx, g):
    w, product = ctx.saved_tensors
    return g * w, (g * product).sum(0)


def views_g(ctx, g):
    x, w = ctx.saved_tensors
    return (g.view(-1) * w.expand(x.shape).reshape(-1)).view(x.shape), (g * x).sum(0)


def adds_to_a_new_buffer(ctx, g):
    x, w = ctx.saved_tensors
    dw = torch.empty_like(w)
    dw += (g * x).sum(0)
    return g * w, dw


def adds_to_what_it_returned(ctx, g):
    x, w = ctx.saved_tensors
    ctx.dw = getattr(ctx, "dw", 0) + (g * x).sum(0)
    return g * w, ctx.dw


def adds_to_a_buffer_that_stays(ctx, g):
    x, w = ctx.saved_tensors
    KEPT[:] = KEPT or [torch.zeros_like(w)]
    return g * w, KEPT[0].add_((g * x).sum(0))


def counts_its_calls(ctx, x, w):
    ctx.save_for_backward(x, w)
    KEPT.append(x)
    return x * w * len(KEPT)


def keeps_x_outside(ctx, x, w):
    ctx.save_for_backward(w)
    KEPT[:] = [x.clone()]
    return x * w


def reads_x_outside(ctx, g):
    (w,) = ctx.saved_tensors
    return g * w, (g * KEPT[0]).sum(0)


def summing(how):
    """Make a backward that sums g x over the rows in its own way."""

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w, how(g * x)

    return backward


def two_outputs(ctx, x, w):
    ctx.save_for_backward(x, w)
    ctx.set_materialize_grads(False)
    return x * w, x + 0


def forgets_that_g_may_be_none(ctx, g, h):
    dx, dw = Scale.backward(ctx, g)
    return dx + h, dw


def minds_that_g_may_be_none(ctx, g, h):
    x, w = ctx.saved_tensors
    g, h = (torch.zeros_like(x) if each is None else each for each in (g, h))
    return g * w + h, (g * x).sum(0)


LINE = r" \(line \d+: "
FUNCTIONS = {
    "g": (writes_into_g, writes_into_its_own, rf"backward writes into g.*{LINE}g.mul_\(w\)"),
    "x": (writes_into_x, Scale.backward, rf"backward writes into x{LINE}x.mul_\(g\)"),
    "saved": (scale(writes_into_what_is_saved, saves_a_product),
        scale(reads_what_is_saved, saves_a_product),
        r"backward writes into a saved tensor of shape \(4, 8\)"),
    "a view of g": (
        views_g, Scale.backward, "raised RuntimeError: view size .*, where g is a part of a larger",
    ),
    "shape": (lambda ctx, g: (Scale.backward(ctx, g)[0].sum(0), Scale.backward(ctx, g)[1]),
        # The engine sums over what was broadcast.
        lambda ctx, g: (Scale.backward(ctx, g)[0], g * ctx.saved_tensors[0]),
        r"dx is summed over axis 0, which it should keep: shape \(8,\), expected \(4, 8\)"),
    "new memory": (adds_to_a_new_buffer,
        summing(lambda rows: torch.empty_like(rows.sum(0)).copy_(rows.sum(0))),
        rf"dw is wrong where new memory holds nan: is a buffer .*{LINE}dw \+= \(g \* x\).sum\(0\)"),
    "again": (adds_to_what_it_returned, Scale.backward, "dw is wrong when backward runs again"),
    "one buffer": (
        adds_to_a_buffer_that_stays, Scale.backward, "dw is wrong when backward runs again"),
    "y": (scale(Scale.backward, counts_its_calls), Scale.backward, "y is wrong in another run"),
    "calls": (scale(reads_x_outside, keeps_x_outside), Scale.backward,
        "dw is wrong after another call.*does it read what forward kept outside of ctx"),
    "no rows": (summing(lambda rows: rows[0] + rows[1:].sum(0)), Scale.backward,
        "raised IndexError: .*, where axes of size 4 have size 0"),
    "one output": (scale(forgets_that_g_may_be_none, two_outputs),
        scale(minds_that_g_may_be_none, two_outputs),
        "raised TypeError: .*, where one output alone gets a g"),
}  # fmt: skip


@pytest.mark.full(but=("saved", "shape", "new memory", "again", "calls"))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_mistake_is_told_and_its_right_neighbour_is_not(name):
    wrong, right, sentence = FUNCTIONS[name]
    wrong, right = (f if isinstance(f, type) else scale(f) for f in (wrong, right))
    KEPT.clear()
    with pytest.raises(GradientError, match=sentence):
        check_function(wrong, X, W)
    report = check_function(right, X, W, all=True)
    assert report.is_right, str(report)
    assert not [remark for remark in report.remarks if "not tried" in remark]


def test_the_inputs_are_left_as_they_were():
    x, w = X.clone(), W.clone()
    state = torch.get_rng_state()
    check_function(scale(writes_into_x), x, w, all=True)
    assert torch.equal(x, X)
    assert torch.equal(w, W)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.full
def test_a_second_derivative_that_is_silently_wrong_is_a_remark_and_if_asked_a_mistake():
    def forward(ctx, x, w):
        ctx.save_for_backward(x * 1, w)
        return x**2 * w

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return 2 * g * x * w, (g * x**2).sum(0)

    report = check_function(scale(backward, forward), X, W, all=True)
    assert report.is_right
    assert report.remarks[0].startswith("the second derivative is silently wrong")
    with pytest.raises(GradientError, match="the second derivative is silently wrong"):
        check_function(scale(backward, forward), X, W, twice=True)
    check_function(scale(once_differentiable(backward), forward), X, W, twice=True)
    check_function(Scale, X, W, twice=True)


@pytest.mark.full
def test_sums_in_few_digits_are_told_of_bfloat16_and_a_remark_of_float32():
    row_by_row = summing(lambda rows: reduce(torch.add, rows, rows.new_zeros(rows.shape[1:])))
    in_float32 = summing(lambda rows: rows.float().sum(0).to(rows.dtype))
    told = "dw is wrong in bfloat16 by 0.* of its largest value, and right for few rows"
    few = X.bfloat16(), W.bfloat16()
    with pytest.raises(GradientError, match=told):
        check_function(scale(row_by_row), *few)
    assert "kept in so few digits" in check_function(scale(row_by_row), X, W, all=True).remarks[0]
    for inputs in (few, (X, W)):
        report = check_function(scale(in_float32), *inputs, all=True)
        assert (report.verdict, report.remarks) == ("right", ())


def test_what_declares_vmap_is_tried_under_it():
    class Right(Function):
        generate_vmap_rule = True  # a wrong rule of its own is among the bugs of public histories

        @staticmethod
        def forward(x, w):
            return x * w

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, g):
            return Scale.backward(ctx, g)

    check_function(Right, X, W)


def test_a_report_says_what_was_tried():
    report = check_function(scale(writes_into_g), X, W, all=True)
    assert report.mistakes[0].leaf == "nothing written into"
    tried = [f.leaf for f in report.findings if f.verdict == "right"]
    assert {"dx", "dw", "new memory of nan", "a second backward", "other sizes"} <= {*tried}
    assert attrs.asdict(report.mistakes[0])["layer"] == "Mine"
