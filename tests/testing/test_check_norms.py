"""Mistakes in the library's own batch norm of rows, at the params that `init` makes."""

import pytest

import lincoln_fn as lf
from lincoln_fn import keys
from lincoln_fn.layers.batch_norm import Params
from lincoln_fn.testing import GradientError, check_layer, naming

NORM = lf.batch_norm()
X = keys.normal(lf.Key(1), (5, 3))
PARAMS = NORM.init(lf.Key(0), X)


def mean(v):
    return v.mean(0, keepdim=True)


def without_weight(n, r, d, g):
    return r * (g - mean(g) - n * mean(g * n))


# For each mistake dx, dw and db by x_hat, 1/std, d = w g and g; None is right.
MISTAKES = {
    r"dx is its gradient \+ 1/5 r sum\(d, 0\)": (lambda n, r, d, g: r * d, None, None),
    r"dx lacks the factor params.weight in the path through sub\(\) \(right where": (
        without_weight, None, None),
    r"dx misses the path through mean\(\), as if it were a constant": (
        lambda n, r, d, g: r * (d - mean(d)), None, None),
    r"dx lacks the factor r in the path through sub\(\)": (
        lambda n, r, d, g: d - mean(d) - n * mean(d * n), None, None),
    r"dx has the wrong sign in the path through mean\(\)": (
        lambda n, r, d, g: r * (d - mean(d) + n * mean(d * n)), None, None),
    "dparams.weight is 5 times too small": (None, lambda n, r, d, g: (g * n).mean(0), None),
    "dparams.weight is the gradient of another leaf: dparams.bias": (
        None, lambda n, r, d, g: g.sum(0), None),
    "dparams.bias is 5 times too small": (None, None, lambda n, r, d, g: g.mean(0)),
}  # fmt: skip


def with_mistake(dx, dweight, dbias):
    def backward(params, cache, g):
        right, of_params = NORM.backward(params, cache, g)
        of = cache.x_hat, cache.rstd, g * params.weight, g
        return dx(*of) if dx else right, Params(
            dweight(*of) if dweight else of_params.weight,
            dbias(*of) if dbias else of_params.bias,
            params.running,
        )

    return NORM.replace(backward=backward)


@pytest.mark.parametrize(
    "says", [pytest.param(m, marks=pytest.mark.full) if i else m for i, m in enumerate(MISTAKES)]
)
def test_a_mistake_in_batch_norm_has_its_name_at_initial_params(says):
    with pytest.raises(GradientError, match=rf"^batch_norm\(\): {says}"):
        check_layer(with_mistake(*MISTAKES[says]), PARAMS, X)


def test_a_search_that_fails_costs_no_verdict(monkeypatch):
    def fails(evidence, wrong):
        raise IndexError("no such place")

    monkeypatch.setattr(naming, "find_steps", fails)
    with pytest.raises(GradientError, match="dx is wrong in 15 of 15 places"):
        check_layer(with_mistake(without_weight, None, None), PARAMS, X)
