"""Relevance through `reversible`, `ode` and `scan`, by formulas and by equal networks."""

import pytest
import torch
from helpers import same_number
from helpers.refusals import assert_says, refusals
from helpers.relevance import EXACT, normal

import lincoln_fn as lf
from lincoln_fn import attribution, tree
from lincoln_fn.attribution import kinds, rules


def explained(net, x, target, rules=EXACT):
    return attribution.lrp(net, net.init(lf.Key(1), x), x, target, rules=rules)


WIDE = lf.serial(lf.dense(4), lf.tanh())
NARROW = lf.serial(lf.dense(5), lf.relu(), lf.dense(2, bias=False))
OWN_CELL = lf.serial(lf.parallel(lf.dense(3), lf.dense(3)), lf.add(), lf.tanh())
PAIR = lf.branch(lf.dense(2), lf.identity(), merge=lf.identity())
NETS = {
    "reversible": lf.reversible((NARROW, WIDE), (NARROW, lf.dense(4))),
    "reversible, checkpointed": lf.checkpointed(lf.reversible((NARROW, WIDE), (NARROW, WIDE))),
    "euler": lf.ode(lf.serial(lf.dense(6), lf.tanh()), method="euler", steps=3),
    "midpoint": lf.ode(lf.serial(lf.dense(6), lf.tanh()), (1.0, 0.4), method="midpoint", steps=2),
    "rk4": lf.ode(lf.serial(lf.dense(6), lf.tanh()), steps=2),
    "rk4, checkpointed": lf.checkpointed(lf.ode(lf.tanh(), steps=2)),
}


def tensor_of(name):
    x = normal(3, 6)
    return (x[:, :2], x[:, 2:]) if name.startswith("reversible") else x


@pytest.mark.parametrize("name", NETS)
def test_relevance_is_conserved(name):
    net, x = NETS[name], tensor_of(name)
    if isinstance(x, tuple):
        net = lf.serial(net, lf.concatenate())
    classes = torch.tensor([4, 0, 5])
    found = explained(net, x, classes)
    total = net.predict(net.init(lf.Key(1), x), x)[torch.arange(3), classes]
    assert same_number(sum(leaf.sum(1) for leaf in tree.leaves(found.x)), total)
    assert all(abs(layer.lost) < 1e-9 for layer in attribution.conservation(found))


def test_a_reversible_block_shares_as_two_residual_connections():
    x, r = normal(3, 6), normal(3, 6, seed=1)
    found = explained(lf.reversible((lf.tanh(), lf.relu())), x, r)
    (x1, x2), (r1, r2) = x.chunk(2, 1), r.chunk(2, 1)
    y1 = x1 + x2.tanh()
    y2 = x2 + y1.relu()
    r1, r2 = r1 * y1, r2 * y2
    r1 = r1 + y1.relu() / y2 * r2
    assert same_number(found.x, torch.cat([x1 / y1 * r1, x2 / y2 * r2 + x2.tanh() / y1 * r1], 1))
    assert same_number((found["1"].y, found["0"].y), (y1.relu() / y2 * r2, x2.tanh() / y1 * r1))


def test_a_sum_within_a_loop_has_the_rule_that_the_composite_has_for_add():
    doubling = attribution.Composite(((kinds.ADDITION, rules.gradient()), *EXACT.choices))
    x = normal(3, 6)
    block, step = lf.reversible((lf.tanh(), lf.tanh())), lf.ode(lf.tanh(), method="euler", steps=1)
    # y_2 = x_2 + h(x_1 + f(x_2)) has three terms.
    for net, terms in ((block, 3), (step, 2)):
        once, all_of_it = (explained(net, x, 4, each).x.sum() for each in (EXACT, doubling))
        assert same_number(all_of_it, terms * once)
    without = attribution.Composite(((kinds.ACTIVATION, rules.pass_()),))
    assert_says("lrp: add(): the composite has no rule", explained, net, x, 4, without)


def test_the_steps_of_euler_share_as_residual_connections_do():
    x, r, h = normal(3, 6), normal(3, 6, seed=1), 0.25
    found = explained(lf.ode(lf.tanh(), (0.0, 0.5), method="euler", steps=2), x, r)
    middle = x + h * x.tanh()
    end = middle + h * middle.tanh()
    # tanh passes relevance on to the same elements, so z gets back all that its step gave away.
    assert same_number((found.x, found.layers[0].y), (r * end, h * middle.tanh() / end * r * end))
    assert same_number(found.layers[1].y, h * x.tanh() / middle * r * end)


def test_the_stages_of_a_step_share_by_their_weights():
    field, x, h = lf.dense(6, bias=False), normal(3, 6), 0.5
    net = lf.ode(field, (0.0, h), method="midpoint", steps=1)
    weight = net.init(lf.Key(1), x).weight
    found = explained(net, x, torch.ones(3, 6)).x

    def through(z, r):
        return z * ((r / (z @ weight)) @ weight.mT)

    k1 = x @ weight
    u = x + h / 2 * k1
    k2 = u @ weight
    r_u = through(u, h * k2)  # the relevance of z' is z' itself
    expected = x + x / u * r_u + through(x, h / 2 * k1 / u * r_u)
    assert same_number(found, expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("layer", "cell"), [
    (lf.lstm(3), lf.lstm_cell(3)), (lf.gru(3), lf.gru_cell(3)), (lf.rnn(3), lf.rnn_cell(3)),
], ids=["lstm", "gru", "rnn"])  # fmt: skip
def test_a_scanned_cell_has_the_relevance_of_the_recurrent_layer(layer, cell, reverse):
    x, r = normal(2, 5, 4), normal(2, 5, 3, seed=1)
    params = layer.init(lf.Key(1), x)
    if reverse:
        expected = attribution.lrp(layer, params, x.flip(1), r.flip(1), rules=EXACT).x.flip(1)
    else:
        expected = attribution.lrp(layer, params, x, r, rules=EXACT).x
    scan = lf.scan(cell, reverse=reverse)
    given = attribution.lrp(scan, params.cells[0][0], x, r, rules=EXACT).x
    # Each step divides by its sums, of which some are a hundred times smaller than their terms.
    assert same_number(given, expected, error=1e-10)


def test_an_own_cell_shares_between_its_input_and_the_recurrent_path():
    x, r, layer = normal(2, 5, 4), normal(2, 5, 3, seed=1), lf.rnn(3, bias=False)
    params = layer.init(lf.Key(1), x)
    expected = attribution.lrp(layer, params, x, r, rules=EXACT).x
    cell = params.cells[0][0]
    dense = lf.layers.dense.Params
    own = ((dense(cell.weight_ih, None), dense(cell.weight_hh, None)), (), ())
    net, state = lf.serial(lf.scan(OWN_CELL), lf.select(0)), torch.zeros(2, 3, dtype=torch.float64)
    found = attribution.lrp(net, (own, ()), (x, state), r, rules=EXACT)
    assert same_number(found.x[0], expected)
    of_steps = [layer for layer in found.layers if layer.path == "0.0.0.1"]
    assert len(of_steps) == 5
    total = sum(leaf.sum() for leaf in tree.leaves(found.x))
    assert same_number(total, (net.predict((own, ()), (x, state)) * r).sum())


def test_a_cell_with_an_output_beside_its_state_conserves_relevance():
    net = lf.serial(lf.scan(lf.serial(OWN_CELL, PAIR), has_output=True), lf.select(0))
    x = normal(2, 5, 4), normal(2, 3, seed=2)
    params, r = net.init(lf.Key(1), x), normal(2, 5, 2, seed=1)
    found = attribution.lrp(net, params, x, r, rules=EXACT)
    total = sum(leaf.flatten(1).sum(1) for leaf in tree.leaves(found.x))
    assert same_number(total, (net.predict(params, x) * r).sum((1, 2)))


def test_padding_of_a_masked_scan_has_no_relevance():
    net, x = lf.serial(lf.scan(lf.lstm_cell(3)), lf.select(0)), normal(2, 5, 4)
    mask, r = torch.arange(5) < torch.tensor([[5], [2]]), normal(2, 5, 3, seed=1)
    params = net.init(lf.Key(1), (x, None, mask))
    found = attribution.lrp(net, params, (x, None, mask), r, rules=EXACT).x[0]
    assert not found[1, 2:].any()
    alone = attribution.lrp(net, params, (x[1:, :2], None), r[1:, :2], rules=EXACT).x[0]
    assert same_number(found[1:, :2], alone)


def behind(loop):
    return explained(lf.serial(lf.tanh(), loop), normal(3, 6), 1)


test_a_loop_without_relevance_is_refused_with_what_to_use = refusals("""
behind(fixed_point(rnn_cell(6))) -> lrp: 1 fixed_point(rnn_cell(6)): z is a function of itself ...
    use lf.attribution.integrated_gradients
behind(ode(tanh(), adjoint='continuous')) -> lrp: 1 ode(tanh(), adjoint='continuous'): the
    continuous adjoint ... use adjoint='discrete', which has the same params
""")
