"""Attribution patching equals patching one output at a time, to first order."""

import pytest
import torch
from helpers import cast, same_bits, same_number
from helpers.relevance import normal

import lincoln_fn as lf
from lincoln_fn.attribution import attribution_patching
from lincoln_fn.inspect.patching import outputs, patched


def brute_force(net, params, clean_x, corrupted_x, metric):
    """Patch each output in a run of its own, and measure how the metric changes."""
    clean = outputs(net, params, clean_x)
    before = metric(net.predict(params, corrupted_x))
    return {
        path: metric(patched(net, {path: y}).predict(params, corrupted_x)) - before
        for path, y in clean.items()
        if "use" not in path
    }


def check_first_order(net, params, clean_x, direction, metric, target):
    """Compare the estimates for two differences of the inputs, the second a tenth of the first."""
    errors = []
    for size in (1e-4, 1e-5):
        corrupted = lf.tree.map(lambda x, d, size=size: x + size * d, clean_x, direction)
        found = attribution_patching(net, params, clean_x, corrupted, target)
        expected = brute_force(net, params, clean_x, corrupted, metric)
        sums = {path: sum(leaf.sum() for leaf in lf.tree.leaves(found[path])) for path in expected}
        errors.append({path: (sums[path] - expected[path]).abs().item() for path in expected})
        for path, change in expected.items():
            assert errors[-1][path] <= 0.01 * abs(change) + 1e-12, path
    for path, error in errors[0].items():
        # Of second order: a tenth of the difference has a hundredth of the error.
        assert errors[1][path] <= error / 50 + 1e-13, path


X = normal(3, 5, 6)
NET = lf.serial(
    lf.transformer_encoder_block(2, 7, 0.1, "gelu", norm_first=True, is_causal=True),
    lf.checkpointed(lf.residual(lf.serial(lf.layer_norm(), lf.dense(6), lf.tanh()))),
    lf.masked_mean(),
    lf.dense(4),
)
PARAMS = NET.init(lf.Key(1), X)


def test_the_effect_of_every_output_is_right_to_first_order():
    weights = normal(3, 4, seed=2)
    direction = normal(3, 5, 6, seed=1)
    check_first_order(NET, PARAMS, X, direction, lambda y: (weights * y).sum(), weights)


def test_a_metric_may_be_any_function_of_y():
    def metric(y):
        return y.logsumexp(1).sum()

    check_first_order(NET, PARAMS, X, normal(3, 5, 6, seed=1), metric, lambda y: y.softmax(1))


def test_the_effects_are_exact_behind_the_last_layer_that_is_not_linear():
    other = normal(3, 5, 6, seed=3)
    found = attribution_patching(NET, PARAMS, X, other, 2)
    change = (NET.predict(PARAMS, X) - NET.predict(PARAMS, other))[:, 2]
    for path in ("1.0", "1", "2", "3", ""):
        own = found[path].flatten(1).sum(1)
        assert same_number(own, change)
    assert not same_number(found["0"].flatten(1).sum(1), change)
    assert list(found) == list(outputs(NET, PARAMS, X))


@pytest.mark.parametrize("wrap", [lambda layer: layer, lf.checkpointed])
def test_uses_with_equal_outputs_have_effects_of_their_own(wrap):
    net = lf.serial(wrap(lf.shared(lf.tanh())), lf.concatenate(1), lf.dense(1))
    x, same = (normal(2, 3), normal(2, 3, seed=1)), normal(2, 3, seed=2)
    params = net.init(lf.Key(0), x)
    found = attribution_patching(net, params, x, (same, same), 0)
    path = "0.0" if wrap is lf.checkpointed else "0"
    of_uses = [found[f"{path}.0"], found[f"{path}.0, use 2"]]
    weights = params[2].weight.double().reshape(2, 3)
    for effect, h, w in zip(of_uses, x, weights, strict=True):
        assert same_number(effect, w * (h.tanh() - same.tanh()))
    assert same_number(found["0"], tuple(of_uses))


def test_indices_and_masks_have_no_effect_of_their_own():
    net = lf.serial(
        lf.parallel(lf.embedding(9, 4), lf.identity()), lf.multi_head_attention(2), lf.last_state()
    )
    codes, mask = torch.tensor([[1, 2, 3]]), normal(1, 3)
    params = cast(net.init(lf.Key(1), (codes, mask.float())))
    other = torch.tensor([[1, 7, 3]]), mask
    found = attribution_patching(net, params, (codes, mask), other, 1)
    assert found["0.0"].shape == (1, 3, 4)
    assert not found["0.0"][:, [0, 2]].any()
    bools = torch.tensor([[True, True, False]])
    found = attribution_patching(net, params, (codes, bools), (other[0], bools), 1)
    assert found["0"][1] is None


def test_runs_of_different_shapes_are_refused():
    with pytest.raises(lf.LayerError, match="expected both runs to have outputs of one shape"):
        attribution_patching(NET, PARAMS, X, X[:, :4], 1)


def test_a_rule_takes_the_place_of_the_gradient():
    net = lf.serial(lf.dense(4), lf.silu(), lf.dense(3))
    params, x, other = cast(net.init(lf.Key(2), X[0])), normal(5, 6), normal(5, 6, seed=1)
    found = attribution_patching(net, params, x, other, 1, rule=lf.rules.relp)
    h, h_other = (lf.dense(4).predict(params[0], x) for x in (x, other))
    g = params[2].weight[:, 1]
    assert same_number(found["0"], (h - h_other) * g * h_other.sigmoid())
    assert same_number(found["1"], (h * h.sigmoid() - h_other * h_other.sigmoid()) * g)
    assert list(found) == list(outputs(net, params, x))
    by_gradient = attribution_patching(net, params, x, other, 1)
    assert same_bits(found["1"], by_gradient["1"])
    assert not same_number(found["0"], by_gradient["0"])
    # A network that has the rule already is explained by its gradient, as with any rule.
    assert same_number(attribution_patching(lf.rules.relp(net), params, x, other, 1), by_gradient)
