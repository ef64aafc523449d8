"""Flows: the log-determinant is that of the Jacobian, and the inverse comes back."""

import pytest
import torch
from helpers import cast, normal, same_bits, same_number

import lincoln_fn as lf


def mlp(n):
    return lf.serial(lf.dense(7), lf.tanh(), lf.dense(n))


IMAGE = lf.coupling(lf.conv2d(4, 3, padding=1), swap=True, dim=1)
FLOWS = {
    "rows": (lf.serial(lf.coupling(mlp(4)), lf.coupling(mlp(6), swap=True, max_log_scale=None)),
        normal(4, 5)),
    "images": (lf.serial(IMAGE, lf.serial(lf.coupling(lf.conv2d(4, 1), dim=1))),
        normal(2, 4, 2, 3)),
}  # fmt: skip

LAYER, X = lf.coupling(lf.dense(4)), normal(3, 4)
PARAMS = LAYER.init(lf.Key(0), X)


@pytest.mark.parametrize(("flow", "x"), FLOWS.values(), ids=FLOWS)
def test_the_log_determinant_is_that_of_the_jacobian_and_the_inverse_comes_back(flow, x):
    params, x = cast(flow.init(lf.Key(0), x)), x.double()
    y, log_det = flow.predict(params, x)
    for n, row in enumerate(x):
        jacobian = torch.func.jacrev(lambda row: flow.predict(params, row[None])[0][0])(row)
        expected = torch.linalg.slogdet(jacobian.reshape(row.numel(), -1)).logabsdet
        assert same_number(log_det[n], expected, terms=float(row.numel()))
    again, rest = lf.inverse(flow, params, (y, log_det))
    assert same_number((again, rest), (x, torch.zeros_like(rest)), terms=10.0)
    assert same_number(lf.inverse(flow, params, y)[1], -log_det, terms=10.0)


@pytest.mark.parametrize("flow", [LAYER, lf.serial(LAYER)], ids=["alone", "in serial"])
def test_dx_mirrors_a_pair_without_a_log_determinant(flow):
    params = PARAMS if flow is LAYER else (PARAMS,)
    g = normal(3, 4, seed=1), normal(3, seed=2)
    (y, cache), (same, its_cache) = (flow.forward(params, x) for x in (X, (X, None)))
    dx, dparams = flow.backward(params, cache, g)
    (of_x, of_log_det), same_dparams = flow.backward(params, its_cache, g)
    assert same_bits((same, of_x, same_dparams), (y, dx, dparams))
    assert of_log_det is None
