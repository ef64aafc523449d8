"""`prove`: every layer and loss is proven by equality, and errors of any size are refused."""

import functools
import math
from fractions import Fraction

import attrs
import pytest
import torch
from helpers import CASES, FIRST, assert_says, normal, run
from helpers.losses import TABLE

import lincoln_fn as lf
from lincoln_fn.errors.arguments import call_with
from lincoln_fn.layers import selu
from lincoln_fn.testing import Proof, Refutation, Undecided, prove

X = normal(5, 3)
# By layer, and where it has other cases its arguments: why exact numbers do not reach it.
UNDECIDED = {
    "fixed_point": "",  # iterates until a float is small
    "tanhshrink": "floats see no difference",  # a continued fraction that is cut off
}


def reason_of(case):
    return next((why for start, why in UNDECIDED.items() if str(case).startswith(start)), None)


def assert_proven_but(verdict, reason):
    """Check that a subject is proven, or undecided where there is a reason for it."""
    assert isinstance(verdict, Proof if reason is None else Undecided), str(verdict)
    assert reason is None or reason in verdict.reason


# One of each kind; that the gradients of every layer are right, layers/test_layers.py sees, too.
@pytest.mark.full(
    but=(
        *("[dense(4)-5x3]", "[identity()-", "[softmax()-5x3]", "[gelu()-5x3]", "[tanhshrink()-"),
        *("[conv2d(4, 3)-2x3x5x6]", "[layer_norm()-5x3]", "[batch_norm()-5x3]", "[gather(0)-"),
        *("[max_pool2d(2)-2x3x7x9]", "[embedding(7, 3)-2x4]", "[rnn(4)-2x5x3]", "[dropout()-5x3]"),
        *("[mean(dim=1)-2x3x5]", "[graph_conv()-5x3+2x6]", "[swiglu(7)-2x5x6]", "[norm()-5x3]"),
        *("[attention_heads(2)-2x5x6+2x4x6+2x4x6]", "[graph(centred)-5x3]"),
    )
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_layer_is_proven(case):
    verdict = prove(case.layer, case.params(), case.x, predict_is_forward=case.predict_is_forward)
    assert_proven_but(verdict, reason_of(case))


def test_nearly_all_layers_are_proven():
    assert sum(reason_of(case) is None for case in CASES) >= 535


LOSSES = [(row, reduction) for row in TABLE for reduction in row.reductions]
# Of these powers, too many roots are of numbers without one in the field.
UNDECIDED_LOSSES = {"triplet_margin(p=3.5,eps=0.1)", "triplet_margin(p=0.5)"}


@pytest.mark.full(
    but=(
        *("[mse()-", "[huber(delta=1.0)-mean]", "[kl_div()-mean]", "[dpo()-mean]"),
        *("[softmax_cross_entropy()-mean]", "[sigmoid_cross_entropy()-sum]", "[dice()-mean]"),
        "[triplet_margin()-mean",
    )
)
@pytest.mark.parametrize(("row", "reduction"), LOSSES, ids=str)
def test_a_loss_is_proven(row, reduction):
    verdict = prove(row.loss(reduction), row.prediction, row.target)
    assert_proven_but(verdict, "" if str(row) in UNDECIDED_LOSSES else None)


def test_nearly_all_losses_are_proven():
    assert sum(str(row) not in UNDECIDED_LOSSES for row, _ in LOSSES) >= 315


def with_error(layer, i, size):
    """Make a layer whose backward multiplies one leaf of (dparams, dx) by 1 + size."""

    def backward(params, cache, g):
        dx, dparams = layer.backward(params, cache, g)
        places = iter(range(999))
        return lf.tree.map(
            lambda leaf: leaf * (1 + size) if next(places) == i else leaf, (dparams, dx)
        )[::-1]

    return layer.replace(backward=backward)


def leaves_of(case):
    """List the numbers and names of the leaves of (params, x) with a gradient that is not 0."""
    layer, params, x = case.layer, case.params(), case.x
    _, dx, dparams = run(layer, params, x, lambda y: lf.tree.map(torch.ones_like, y))
    gradients = {"dparams": dparams, "dx": dx}
    pairs = zip(lf.tree.paths(gradients), lf.tree.leaves(gradients), strict=True)
    return [(i, name) for i, (name, leaf) in enumerate(pairs) if leaf.any()]


PROVEN = [case for case in FIRST if reason_of(case) is None]


def test_a_gradient_of_another_shape_is_refused_though_it_broadcasts():
    dense = lf.dense(4)
    unsummed = dense.replace(
        backward=lambda params, x, g: (
            g @ params.weight.mT,
            lf.layers.dense.Params(x.mT @ g, g),
        )
    )
    verdict = prove(unsummed, dense.init(lf.Key(0), X), X)
    assert isinstance(verdict, Refutation)
    assert verdict.leaf == "dparams.bias"


@pytest.mark.full(but=("[tanh()-", "[softmax()-"))
@pytest.mark.parametrize("case", PROVEN, ids=str)
def test_errors_of_any_size_are_refused_in_each_leaf(case):
    leaves = leaves_of(case)
    # Of a composition some, for its parts are rows, too.
    for i, name in leaves[:: 1 + len(leaves) // 8]:
        for size in (1e-6, 1e-10, 1e-14):
            verdict = prove(with_error(case.layer, i, size), case.params(), case.x)
            assert isinstance(verdict, Refutation), f"{name}, {size}: {verdict}"
            assert verdict.leaf == name


def fresh(case):
    """Give the params of the constructor's own init; the table's normalisations have others."""
    spec = case.layer.spec
    layer = case.layer if spec.of is lf.graph else call_with(spec.of, dict(spec.arguments))
    return layer.init(lf.Key(11), case.x)


def scales_of(case):
    """List the numbers of the params that are 1 at first."""
    leaves = enumerate(lf.tree.leaves(fresh(case)))
    return [i for i, leaf in leaves if leaf.numel() and (leaf == 1).all()]


@pytest.mark.full(but=("[layer_norm()-", "[batch_norm()-"))
@pytest.mark.parametrize("case", [case for case in PROVEN if scales_of(case)], ids=str)
def test_a_backward_that_forgets_a_scale_is_refused_at_the_params_of_init(case):
    layer = case.layer
    for scale in scales_of(case):

        def without(params, scale=scale):
            places = iter(range(999))
            return lf.tree.map(lambda p: torch.ones_like(p) if next(places) == scale else p, params)

        def forward(params, x, without=without):
            return layer.forward(params, x)[0], layer.forward(without(params), x)[1]

        def backward(params, cache, g, without=without):
            return layer.backward(without(params), cache, g)

        wrong = layer.replace(forward=forward, backward=backward)
        verdict = prove(wrong, fresh(case), case.x, predict_is_forward=False)
        assert isinstance(verdict, Refutation), f"{scale}: {verdict}"


def near_gelu(params, cache, g, cubic=0.0447):
    x, c = cache.x, math.sqrt(8 / math.pi)
    p = torch.sigmoid(c * x * (1 + cubic * x * x))
    return g * (p + x * p * (1 - p) * c * (1 + 3 * cubic * x * x)), ()


def near_selu(params, cache, g):
    dx, _ = selu.backward(params, cache, g)
    return torch.where(cache > 0, 1.0507 * g, dx), ()


def normalized(params, x):
    size = x.norm(dim=-1, keepdim=True)
    return x / (size + 1e-5), (x, size)


def normalize_without_eps(params, cache, g):
    x, size = cache
    y = x / size
    return (g - y * (g * y).sum(-1, keepdim=True)) / size, ()


@pytest.mark.parametrize("layer", [
    lf.gelu("tanh").replace(backward=near_gelu), lf.selu().replace(backward=near_selu),
    lf.Layer("normalize()", normalized, normalize_without_eps),
], ids=["gelu", "selu", "normalize"])  # fmt: skip
def test_mistakes_below_a_tolerance_are_refused(layer):
    verdict = prove(layer, (), X)
    assert isinstance(verdict, Refutation)
    assert verdict.leaf == "dx"


def test_the_leaf_and_the_number_are_told():
    layer = lf.dense(4)
    wrong = layer.replace(
        backward=lambda params, x, g: (
            g @ params.weight.mT, attrs.evolve(params, weight=x.mT @ g * 2 / 3, bias=g.sum(0)))
    )  # fmt: skip
    verdict = prove(wrong, layer.init(lf.Key(0), X), X)
    assert verdict == Refutation("dense(4)", "dparams.weight", Fraction(2, 3))
    assert "2/3 times the derivative" in str(verdict)


@pytest.mark.parametrize(("changes", "told"), [
    ({"input_grad": lambda params, y, g: g * (1 - y**2) * (1 + 1e-10)},
     "input_grad is not backward(...)[0]"),
    ({"predict": lambda params, x: torch.tanh(x) * (1 + 1e-10)}, "predict is not forward"),
])  # fmt: skip
def test_the_other_functions_are_held_against_backward_and_forward(changes, told):
    layer = lf.tanh()
    verdict = prove(layer.replace(backward=layer.backward, **changes), (), X)
    assert verdict == Refutation("tanh()", told)
    assert told in str(verdict)


def test_a_tie_is_no_mistake():
    of_zero = lf.relu().replace(backward=lambda params, y, g: (torch.where(y > 0, g, g / 3), ()))
    assert isinstance(prove(of_zero, (), -X.abs()), Refutation)
    zeros = lf.Layer("relu()", lambda params, x: (torch.relu(x), x), lambda params, x, g: (
        torch.where(x == 0, g / 2, g * (x > 0)), ()))  # fmt: skip
    assert "a tie or a kink" in str(prove(zeros, (), torch.zeros(2, 3)))
    twice = lf.Layer("largest()", lambda params, x: (x.flatten()[x.argmax()], x.argmax()),
        lambda params, at, g: (torch.stack([g / 2, g / 2])[:, None], ()))  # fmt: skip
    assert "a tie or a kink" in str(prove(twice, (), torch.ones(2, 1)))


def of_logs(params, logarithm, g):
    return g * (torch.exp(logarithm / 2) - 1), ()


@pytest.mark.parametrize(("layer", "x"), [
    (lf.Layer("of_logs()", lambda params, x: (x * x / 2 - x, (x * x).log()), of_logs), 1 + X / 100),
    (lf.tanhshrink(), X / 1000), (lf.tanhshrink(), X / 100),
], ids=["logs", "small", "larger"])  # fmt: skip
def test_the_rounding_of_floats_confirms_nothing(layer, x):
    assert "floats see no difference" in str(prove(layer, (), x))


def cubic(params, x):
    return (x - 1) ** 3, x


def of_read_numbers(params, x, g, times=1.0):
    slopes = [3 * (each.item() ** 2 - 2 * each.item() + 1) for each in x.flatten()]
    return g * torch.tensor(slopes, dtype=g.dtype).view(g.shape) * times, ()


def with_a_number_read(params, x):
    return x + 1e-8 * x.sum().item(), x


def test_a_number_that_is_read_is_held_against_central_differences():
    right = lf.Layer("cubic()", cubic, of_read_numbers)
    of_sum = lf.Layer("sum()", with_a_number_read, lambda params, x, g: (g + 1e-8 * g.sum(), ()))
    for layer, x in ((right, X), (right, 1 + X / 100), (of_sum, X)):
        assert "a number was read" in prove(layer, (), x).reason
    wrong = right.replace(backward=functools.partial(of_read_numbers, times=1.01))
    assert isinstance(prove(wrong, (), X), Refutation)


def test_a_branch_by_a_number_that_is_read_is_proven_with_a_remark():
    def backward(params, x, g):
        return (g * 2 * x if x.sum().item() > 0 else g * (x + x)), ()

    for x in (X.abs(), -X.abs()):
        verdict = prove(lf.Layer("square()", lambda params, x: (x * x, x), backward), (), x)
        assert verdict.assumed == ("a number was read, and is a constant from there on",)


def test_errors_of_forward_and_backward_are_the_layers_own():
    def refuse(params, x):
        raise lf.LayerError("mine()", "no")

    assert_says("mine(): no", prove, lf.Layer("mine()", refuse, of_logs), (), X)
    with pytest.raises(lf.testing.GradientError, match="forward raised ZeroDivisionError"):
        prove(lf.Layer("mine()", lambda params, x: (x / (1 // 0), x), of_logs), (), X)
    with pytest.raises(lf.testing.GradientError, match="backward raised RuntimeError"):
        prove(lf.Layer("mine()", lambda params, x: (x, x), lambda params, x, g: (g @ g, ())), (), X)


@pytest.mark.full
def test_a_fixed_point_to_a_tolerance_is_not_refuted():
    net = lf.serial(lf.fixed_point(lf.rnn_cell(4), shape=(4,), solver="iteration", max_steps=200))
    x = lf.keys.normal(lf.Key(1), (3, 5), dtype=torch.float64)
    assert isinstance(prove(net, net.init(lf.Key(1), x), x), Undecided)


def solved(w, x):
    z, before = torch.tanh(x + w), x
    while (z - before).norm() > 1e-9:
        z, before = torch.tanh(x + w + z / 8), z
    return z, z


def of_solved(w, z, g, times=1.0):
    slope = 1 - z * z
    dw = g * slope / (1 - slope / 8)
    return times * dw, dw


@pytest.mark.full
def test_a_loop_until_two_numbers_are_near_is_held_against_central_differences():
    layer = lf.Layer("solved()", solved, of_solved)
    assert "floats see no difference" in prove(layer, X.flip(0), X).reason
    wrong = layer.replace(backward=functools.partial(of_solved, times=1.01))
    assert prove(wrong, X.flip(0), X).leaf == "dx"  # although dparams is in doubt


def test_what_has_no_rule_is_undecided():
    layer = lf.Layer(
        "lgamma()", lambda params, x: (torch.lgamma(x), x),
        lambda params, x, g: (g * torch.digamma(x), ()),
    )  # fmt: skip
    assert "lgamma.default has no rule" in prove(layer, (), X.abs() + 1).reason


def test_a_proof_says_what_it_is_of():
    layer = lf.rms_norm()
    lines = str(prove(layer, layer.init(lf.Key(0), X), X)).splitlines()
    assert lines[0] == "rms_norm(): proven"
    assert lines[1].startswith("  dparams.weight, dx: the derivative of forward, for these shapes")
    assert lines[2] == "  backward is linear in g"
