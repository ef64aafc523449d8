"""Mistakes that the given params and x hide are found; code that needs its domain is right."""

import hidden
import pytest
import torch
from helpers import assert_says
from helpers.cases import normalisation

import lincoln_fn as lf
from lincoln_fn.testing import GradientError, blame, check_layer, check_loss, explain, grade

X = lf.keys.normal(lf.Key(1), (5, 3))
SQUARE = lf.keys.normal(lf.Key(2), (4, 4))
U = torch.sigmoid(X)
ONES, ZEROS = torch.ones(5, 3), torch.zeros(5, 3)


def mine(forward, dx):
    """Make a layer without params, whose cache is x."""
    return lf.Layer(
        "mine()", lambda params, x: (forward(x), x), lambda params, x, g: (dx(x, g), ())
    )


def trained(forward, backward):
    return lf.Layer("mine()", lambda params, x: (forward(params, x), x), backward)


@lf.record
class Scale:
    scale: torch.Tensor


def scale_by(dx):
    return trained(
        lambda params, x: params.scale * x**2,
        lambda params, x, g: (dx(params, x, g), Scale((g * x**2).sum(0))),
    )


def layer_norm_without_w(params, cache, g):
    ones = lf.evolve(params, weight=torch.ones_like(params.weight))
    right = lf.layer_norm().backward
    return right(ones, cache, g)[0], right(params, cache, g)[1]


def swish_backward(beta, x, g):
    s = torch.sigmoid(beta * x)
    return g * (s + beta * beta * x * s * (1 - s)), (g * x * x * s * (1 - s)).sum()


WITHOUT_SCALE = scale_by(lambda params, x, g: 2 * g * x)
NORM = lf.layer_norm().replace(backward=layer_norm_without_w)
SWISH = trained(lambda beta, x: x * torch.sigmoid(beta * x), swish_backward)

NAMED = {
    "own layer, without its scale": ((WITHOUT_SCALE, Scale(torch.ones(3)), X),
        r"dx lacks the factor params.scale in the path through pow\(\) \(in `x\*\*2`\) "
        r"\(right where params.scale is 1, as given; wrong at other numbers\)$"),
    "layer norm, without w": ((NORM, NORM.init(lf.Key(0), X), X),
        r"dx lacks the other factor of mul\(\) \(right where params.weight is 1, as given; wrong"),
    "swish, one beta too many": ((SWISH, torch.ones(()), X),
        r"dx has the further factor beta in the path through mul\(\) \(in `beta \* x`\) "
        r"\(right where params is 1, as given; wrong at other numbers\)$"),
    "a bias of zero": ((trained(lambda b, x: x * (1 + b) ** 2,
        lambda b, x, g: (g * (1 + b), (2 * g * x * (1 + b)).sum(0))), torch.zeros(3), X),
        r"dx .*\(right where params is 0, as given; wrong at other numbers\)$"),
    "x of ones": ((mine(lambda x: x**3, lambda x, g: 3 * g * x), (), ONES),
        r"dx .*\(right where x is 1, as given"),
    "x of equal rows": ((mine(lambda x: x * x.mean(0), lambda x, g: g * x + (g * x).mean(0)), (),
        X[:1].expand(5, 3)), r"dx .*\(right at the x given; wrong at other numbers\)$"),
    "a symmetric x": ((mine(lambda x: x @ x, lambda x, g: g @ x + x @ g), (), SQUARE + SQUARE.mT),
        r"dx .*\(right at the x given; wrong at other numbers\)$"),
    "a symmetric matrix": (
        (trained(lambda a, x: a @ x, lambda a, x, g: (a @ g, g @ x.mT)), SQUARE + SQUARE.mT,
        SQUARE[:, :3]), r"dx .*\(right at the params given; wrong at other numbers\)$"),
}  # fmt: skip


@pytest.mark.full(but=("[layer norm, without w]", "[x of ones]", "[a symmetric x]"))
@pytest.mark.parametrize("name", NAMED)
def test_a_mistake_that_the_given_point_hides_is_named_and_its_place_told(name):
    (layer, params, x), says = NAMED[name]
    with pytest.raises(GradientError, match=says):
        check_layer(layer, params, x)


def test_a_report_has_the_mistake_beside_what_is_right():
    report = check_layer(WITHOUT_SCALE, Scale(torch.ones(3)), X, all=True)
    assert [(f.leaf, f.verdict) for f in report.findings] == [
        ("dparams.scale", "right"),
        ("dx", "wrong"),
    ]


def test_a_mistake_that_shows_at_the_given_point_is_told_as_before():
    with pytest.raises(GradientError) as told:
        check_layer(WITHOUT_SCALE, Scale(torch.tensor([2.0, 3.0, 4.0])), X)
    assert str(told.value).endswith("in the path through pow() (in `x**2`)")


def test_the_part_of_a_network_is_named():
    net = lf.serial(lf.dense(4), NORM, lf.relu())
    with pytest.raises(
        GradientError, match=r"^1 layer_norm\(\): dx lacks .* params\.1\.weight is 1"
    ):
        check_layer(net, net.init(lf.Key(0), X), X)


def test_a_search_that_fails_costs_no_verdict(monkeypatch):
    def fails(evidence):
        raise IndexError("no such place")

    monkeypatch.setattr(explain, "Runs", fails)
    with pytest.raises(GradientError, match="dx is wrong in 15 of 15 places"):
        check_layer(NORM, NORM.init(lf.Key(0), X), X)


def test_a_running_variance_of_one_hides_nothing():
    @lf.record
    class Running(lf.State):
        var: torch.Tensor

    layer = trained(lambda p, x: x / p.var.sqrt(), lambda p, x, g: (g, p))
    with pytest.raises(GradientError, match=r"dx .*\(right where params.var is 1, as given"):
        check_layer(layer, Running(torch.ones(3)), X)


HALVES = {
    "predict": lambda p, x: x**2,
    "grads": lambda p, x, g: Scale((g * x**2).sum(0) * p.scale),
    "input_grad": lambda p, x, g: 2 * g * x,
}


@pytest.mark.parametrize("function", HALVES)
def test_another_function_that_forgets_a_scale_is_told(function):
    right = scale_by(lambda params, x, g: 2 * g * params.scale * x)
    functions = {"grads": right.grads, "input_grad": right.input_grad, function: HALVES[function]}
    # A new half makes another backward: it is put back.
    layer = right.replace(**functions, backward=right.backward)
    with pytest.raises(GradientError, match=rf"^mine\(\): {function} differs .*params.scale is 1"):
        check_layer(layer, Scale(torch.ones(3)), X)


LOSSES = {
    "ones": (lambda p, t: (p**2 - t).sum(), lambda p, g: 2 * g * p**2, ONES),
    "equal": (lambda p, t: (p * p.mean(0)).sum(), lambda p, g: 2 * g * p, ONES / 2),
    "zeros": (lambda p, t: (p.exp() - t).sum(), lambda p, g: g + p, ZEROS),
}


@pytest.mark.parametrize(("forward", "backward", "prediction"), LOSSES.values(), ids=LOSSES)
def test_predictions_of_ones_and_zeros_hide_no_mistake_of_a_loss(forward, backward, prediction):
    loss = lf.Loss("mine()", lambda p, t: (forward(p, t), p), lambda p, g=1.0: backward(p, g))
    assert_says("GradientError: dx ... (right where x ", check_loss, loss, prediction, X)


def test_a_grade_counts_what_a_case_hides():
    right = scale_by(lambda params, x, g: 2 * g * params.scale * x)
    graded = grade(WITHOUT_SCALE, right, [(Scale(torch.ones(3)), X)])
    assert [mark.points for mark in graded.marks] == [1, 0]


def test_leaves_that_must_stay_do_not_keep_others_from_being_judged():
    def forward(params, x):
        one, scale = params
        if bool(((one - 1).abs() > 1e-3).any()):
            raise ValueError("one must be 1")
        return scale * x

    def backward(params, x, g):
        return g, (0 * params[0], (g * x).sum(0))

    layer = trained(forward, backward)
    with pytest.raises(GradientError, match=r"dx .*\(right where params.1 is 1, as given"):
        check_layer(layer, (torch.ones(2), torch.ones(3)), X)
    report = check_layer(layer, (torch.ones(2), torch.ones(3)), X, all=True)
    stays = "params.0 is checked only as given: the layer takes no other numbers"
    assert report.remarks == (stays,)


# Each row is right for the numbers that it is made for.


def clipped_entropy(p, t):
    p = p.clamp(1e-7, 1 - 1e-7)
    return -(t * p.log() + (1 - t) * (1 - p).log()).sum(), (p, t)


def increasing(x):
    if not bool((x.diff() > 0).all()):
        raise ValueError("expected increasing numbers")
    return x.diff() ** 2


def fixed_point(w, x):
    z = torch.zeros_like(x)
    for _ in range(100):
        z = torch.tanh(z @ w + x)
    return z, z


def fixed_point_backward(w, z, g):
    d, v = 1 - z**2, g
    for _ in range(100):
        v = g + (v * d) @ w.mT
    return v * d, z.mT @ (v * d)


def near(x, g):
    h = torch.nn.functional.pad(2 * g * x.diff(), (1, 1))
    return h[:-1] - h[1:]


LOG = mine(lambda x: x.clamp(min=1e-12).log(), lambda x, g: g / x)
SHIFTED = mine(lambda x: (x - 3).clamp(min=1e-3).log(), lambda x, g: g / (x - 3))
LOOKUP = trained(
    lambda table, x: table[x.long()],
    lambda table, x, g: (0 * x, torch.zeros_like(table).index_add(0, x.long(), g)),
)
FIXED = lf.Layer("mine()", fixed_point, fixed_point_backward)
WITHIN = {
    "a clipped logarithm of probabilities": (LOG, (), U),
    "a clipped logarithm of ones": (LOG, (), ONES),
    "numbers above 3": (SHIFTED, (), U + 4),
    "numbers above 1": (mine(torch.acosh, lambda x, g: g / (x**2 - 1).sqrt()), (), U + 1),
    "a clipped variance": (
        mine(lambda v: v.clamp(min=1e-5).rsqrt(), lambda v, g: -0.5 * g * v**-1.5), (), ONES),
    "increasing numbers": (mine(increasing, near), (), torch.linspace(0, 1, 6)),
    "floats as indices": (LOOKUP, X, torch.tensor([0.5, 1.5, 3.5, 3.5])),
    "a fixed point of a contraction": (FIXED, 0.9 * torch.eye(3), X),
    "a fixed point of nothing": (FIXED, torch.zeros(3, 3), X),
    "a ReLU on its kinks": (mine(torch.relu, lambda x, g: g * (x > 0)), (), ZEROS),
    "a rounding": (mine(torch.floor, lambda x, g: 0 * g), (), X),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHIN)
def test_code_that_is_right_in_its_domain_is_right(name):
    check_layer(*WITHIN[name])


@pytest.mark.parametrize("p", [U, ONES / 2, 0.9 * ONES], ids=["any", "half", "equal"])
def test_a_loss_of_clipped_probabilities_is_right(p):
    def backward(cache, g=1.0):
        p, t = cache
        return g * (p - t) / (p * (1 - p))

    check_loss(lf.Loss("mine()", clipped_entropy, backward), p, (X > 0).double())


# One row of each norm's constructor; `python tests/hidden.py` runs all layers.
ROWS = {
    str(case.layer).partition("(")[0]: case
    for case in reversed(normalisation.CASES)
    if lf.tree.leaves(case.params()) and not case.layer.name.startswith(("weight_", "spectral_"))
}


@pytest.mark.parametrize("name", ROWS)
def test_no_dropped_factor_hides_at_initial_params(name, monkeypatch):
    monkeypatch.setattr(blame, "name_mistakes", hidden.unnamed)
    made = list(hidden.mutants(ROWS[name]))
    assert any(not mutant.is_wrong(mutant.params) for mutant in made)
    assert [str(mutant) for mutant in made if not mutant.is_caught()] == []
