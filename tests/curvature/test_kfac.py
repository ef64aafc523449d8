"""Kronecker factors, and the gradient that they precondition."""

import pytest
import torch
from helpers import begin, cast, same_bits, same_number
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import curvature, keys
from lincoln_fn.curvature.columns import columns

X = keys.normal(lf.Key(1), (5, 2, 6, 4)).double()
LABELS = torch.tensor([0, 2, 1, 1, 0])
NET = lf.serial(
    lf.conv2d(3, (3, 2), stride=(2, 1), padding=(1, 0)), lf.tanh(), lf.flatten(),
    lf.dense(4), lf.tanh(), lf.dense(3, bias=False),
)  # fmt: skip
PARAMS = NET.init(lf.Key(0), X)
CE = lf.losses.softmax_cross_entropy()


def rows_by_hand(net, params, x, g, reduce):
    """List for each dense layer and convolution the rows x~ and g, (n, t, i) and (n, t, o)."""
    _, cache = net.forward(params, x)
    _, sites = lf.cotangents(net, params, cache, g)
    found = {}
    for site in (sites[0], sites[3], sites[5]):
        if site.path == "0":
            geometry = site.cache.geometry
            rows = torch.nn.functional.unfold(
                site.cache.x, site.params.weight.shape[2:], geometry.dilation, 0, geometry.stride
            ).mT
            its = site.g.flatten(2).mT
        else:
            rows, its = site.cache[:, None], site.g[:, None]
        if reduce:
            rows, its = rows.mean(1, keepdim=True), its.sum(1, keepdim=True)
        if site.params.bias is not None:
            rows = torch.cat([rows, torch.ones_like(rows[..., :1])], -1)
        found[site.path] = rows, its
    return found


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize("fisher", ["exact", "empirical"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_factors_are_the_moments_of_rows_and_cotangents(fisher, sharing, reduction):
    loss = lf.losses.softmax_cross_entropy(reduction=reduction)
    got = curvature.kfac_factors(NET, PARAMS, X, loss, LABELS, fisher=fisher, sharing=sharing)
    y = NET.predict(PARAMS, X)
    g = loss.backward(loss.forward(y, LABELS)[1])
    each = columns(loss, y, LABELS) if fisher == "exact" else [g]
    count = len(X) if (fisher, reduction) == ("empirical", "mean") else 1
    wanted_b = dict.fromkeys(got, 0)
    for column in each:
        for path, (rows, its) in rows_by_hand(NET, PARAMS, X, column, sharing == "reduce").items():
            wanted_b[path] = wanted_b[path] + count * torch.einsum("nti,ntj->ij", its, its)
            a = torch.einsum("nti,ntj->ij", rows, rows) / (rows.shape[0] * rows.shape[1])
            assert same_number(got[path].a, a)
    assert sorted(got) == ["0", "3", "5"]
    for path, b in wanted_b.items():
        assert same_number(got[path].b, b)


def step_of(net, params, x, loss, target, gradient, state=None):
    y, cache = net.forward(params, x)
    g = loss.backward(loss.forward(y, target)[1])
    state = gradient.init(net, params) if state is None else state
    return gradient.compute(net, params, cache, g, state, lf.Key(0))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("fast", [True, False])
def test_for_one_example_of_a_linear_network_it_is_the_natural_gradient(bias, fast):
    net = lf.dense(3, bias=bias)
    x, target, damping = keys.normal(lf.Key(1), (1, 4)).double(), torch.tensor([2]), 0.03
    params = net.init(lf.Key(0), x)
    layer = lf.fast(net) if fast else net
    got, _ = step_of(layer, params, x, CE, target, curvature.kfac(damping))
    plain = lf.value_and_gradient(net, CE)(params, (x, target))[1]
    flat = torch.cat([leaf.flatten() for leaf in lf.tree.leaves(plain)])
    fisher = torch.outer(flat, flat) + damping * torch.eye(len(flat)).double()
    natural = torch.linalg.solve(fisher, flat)
    ours = torch.cat([leaf.flatten() for leaf in lf.tree.leaves(got)])
    condition = 1 + flat.square().sum() / damping
    assert same_number(ours, natural, terms=condition * natural.abs().max())


def test_a_convolution_is_preconditioned_by_the_product_of_its_factors():
    damping = 0.01
    got, _ = step_of(NET, PARAMS, X, CE, LABELS, curvature.kfac(damping))
    factors = curvature.kfac_factors(NET, PARAMS, X, CE, LABELS, fisher="empirical")["0"]
    plain = lf.value_and_gradient(NET, CE)(PARAMS, (X, LABELS))[1][0]
    rows = torch.cat([plain.weight.flatten(1), plain.bias[:, None]], 1)  # (o, i)
    whole = torch.kron(factors.b, factors.a)
    whole = whole + damping * torch.eye(len(whole)).double()
    natural = torch.linalg.solve(whole, rows.flatten()).reshape(rows.shape)
    assert same_number((got[0].weight.flatten(1), got[0].bias), (natural[:, :-1], natural[:, -1]))


def test_the_factors_are_running_means_and_eigenvectors_wait():
    gradient, state, wanted = curvature.kfac(0.1, decay=0.6, every=2), None, None
    for k in range(1, 5):
        x = keys.normal(lf.Key(k), (5, 2, 6, 4)).double()
        before = state
        _, state = step_of(NET, PARAMS, x, CE, LABELS, gradient, state)
        now = curvature.kfac_factors(NET, PARAMS, x, CE, LABELS, fisher="empirical")["3"]
        kept = min(1 - 1 / k, 0.6)
        wanted = (
            now if k == 1 else lf.tree.map(lambda w, n, e=kept: e * w + (1 - e) * n, wanted, now)
        )
        for name in ("a", "b"):
            # The share of the past is a number of float32.
            given, expected = getattr(state.factors[1], name), getattr(wanted, name)
            assert same_number(given, expected, error=1e-7)
        is_same = before is not None and bool(same_bits(before.eigen[1].a, state.eigen[1].a))
        assert is_same == (k in (2, 4))


def test_layers_without_factors_keep_their_own_gradient():
    net = lf.serial(
        lf.conv2d(4, 3, groups=2), lf.group_norm(2), lf.flatten(), lf.frozen(lf.dense(3))
    )
    params = net.init(lf.Key(0), X)
    got, _ = step_of(net, params, X, CE, LABELS, curvature.kfac(0.1))
    plain = lf.value_and_gradient(net, CE)(params, (X, LABELS))[1]
    assert same_number(got, plain)


def test_a_shared_layer_has_the_mean_of_its_inputs_and_the_sum_of_its_cotangents():
    net = lf.serial(lf.shared(lf.dense(4)), lf.add(), lf.dense(2))
    x = keys.normal(lf.Key(1), (4, 3)).double(), keys.normal(lf.Key(2), (4, 3)).double()
    target = torch.tensor([0, 1, 1, 0])
    params, loss = net.init(lf.Key(0), x), lf.losses.softmax_cross_entropy(reduction="sum")
    _, state = step_of(net, params, x, loss, target, curvature.kfac(0.1, reduction="sum"))
    y, cache = net.forward(params, x)
    _, sites = lf.cotangents(net, params, cache, loss.backward(loss.forward(y, target)[1]))
    uses = [site for site in _sites(sites) if site.path.startswith("0")]
    assert len(uses) == 2
    inputs = [torch.cat([site.cache, torch.ones(4, 1).double()], 1) for site in uses]
    a = sum(rows.mT @ rows / 4 for rows in inputs) / 2
    b = sum(site.g.mT @ site.g for site in uses)
    assert [f.a.shape for f in state.factors] == [(4, 4), (5, 5)]
    assert same_number((state.factors[0].a, state.factors[0].b), (a, b))


def _sites(tree):
    return [tree] if isinstance(tree, lf.Site) else [s for part in tree for s in _sites(part)]


GRADIENTS = [
    curvature.kfac(0.1, every=2), lf.per_example.noise_scale(),
    lf.per_example.clipped(0.3, noise=0.1, batch_size=4),
]  # fmt: skip


@pytest.mark.full
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("gradient", GRADIENTS, ids=str)
def test_a_compiled_step_and_a_checkpoint_agree(gradient, tmp_path):
    batch = keys.normal(lf.Key(1), (6, 4)), torch.tensor([0, 1, 2, 0, 1, 2])
    step, start = begin(lf.serial(lf.dense(3)), batch[0], CE, gradient=gradient)
    state, _ = step(start, batch)
    lf.checkpoint.save(tmp_path / "state.pt", state)
    resumed = lf.checkpoint.load(tmp_path / "state.pt", like=start)
    wanted = state
    for _ in range(2):  # the eigenvectors are not due, and due
        wanted, _ = step(wanted, batch)
    for again in (step, lf.compile(step)):
        got = resumed
        for _ in range(2):
            got, _ = again(got, batch)
        assert same_number((got.params, got.gradient_state), (wanted.params, wanted.gradient_state))


NORM = lf.serial(lf.dense(3), lf.batch_norm())
NORMED = NORM.init(lf.Key(0), X[..., 0, 0])
test_wrong_arguments_are_refused = refusals("""
curvature.kfac(0) -> kfac: expected damping above 0, got 0
curvature.kfac_factors(NET, PARAMS, X, CE, LABELS, fisher='true') -> expected fisher to be 'exact'
    or 'empirical'
step_of(NORM, NORMED, X[..., 0, 0], CE, LABELS, curvature.kfac()) -> serial[1] batch_norm()
""")


def test_half_precision_has_its_factors_in_float32():
    net, x, gradient = lf.dense(3), keys.normal(lf.Key(5), (8, 4)), curvature.kfac(0.5)
    params, labels = net.init(lf.Key(0), x), torch.arange(8) % 3

    def stepped(dtype):
        own = cast(params, dtype)
        step, start = begin(net, x.to(dtype), CE, lf.optim.sgd(1.0), gradient=gradient, params=own)
        return step(start, (x.to(dtype), labels))[0]

    half, single = stepped(torch.bfloat16), stepped(torch.float32)
    assert half.params.weight.dtype is torch.bfloat16
    assert half.gradient_state.factors[0].a.dtype is torch.float32
    assert same_number(half.params.weight, single.params.weight, dtype=torch.bfloat16)


def test_a_layer_that_declares_no_kind_has_the_factors_of_one_that_does():
    x, target = keys.normal(lf.Key(7), (5, 3)), keys.normal(lf.Key(8), (5, 2))
    unknown = lf.tanh().replace(forward=lambda params, x: lf.tanh().forward(params, x))
    nets = [lf.serial(lf.dense(4), own, lf.dense(2)) for own in (lf.tanh(), unknown)]
    params = nets[0].init(lf.Key(0), x)
    known, found = (
        lf.curvature.kfac_factors(net, params, x, lf.losses.mse(), target) for net in nets
    )
    assert same_bits([known[key].b for key in known], [found[key].b for key in known])
