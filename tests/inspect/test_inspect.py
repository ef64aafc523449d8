"""What `trace` tells of a network, against autograd and against numbers put there on purpose."""

import pytest
import torch
from helpers import cast, largest, normal, same_bits, same_number
from helpers.stateful import STATEFUL

import lincoln_fn as lf
from lincoln_fn.inspect import NonFinite, Trace, trace

X = normal(6, 3).double()
SQUARES = lf.Loss(
    "squares()",
    forward=lambda y, target: (sum(leaf.square().sum() for leaf in lf.tree.leaves(y)), y),
    backward=lambda y, g=1.0: lf.tree.map(lambda leaf: 2 * g * leaf, y),
)
BLOCK = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3))
SEQUENCE = normal(2, 5, 4)
NETWORKS = STATEFUL | {
    "a single layer": (lf.dense(4), X),
    "a single layer, checkpointed": (lf.checkpointed(lf.dense(4)), X),
    "a layer of several outputs": (lf.lstm(4), (normal(2, 5, 3), None)),
    "a user's merge": (lf.branch(BLOCK, lf.tanh(), merge=lf.multiply()), X),
    "checkpointed in checkpointed": (
        lf.checkpointed(lf.serial(BLOCK, lf.checkpointed(BLOCK), lf.dropout())),
        X,
    ),
    "shared of shared, checkpointed": (
        lf.shared(lf.checkpointed(lf.shared(lf.serial(BLOCK, lf.dropout())))),
        ((X, X + 1), (X - 1, 2 * X, X[:2])),
    ),
    "encoder": (lf.repeat(2, lf.transformer_encoder_block(2, 6)), SEQUENCE),
    "encoder, masked": (
        lf.with_context(*[lf.transformer_encoder_block(2, 6, norm_first=True)] * 2),
        (SEQUENCE, torch.ones(2, 5, dtype=torch.bool).tril()),
    ),
    "decoder, checkpointed": (
        lf.with_context(lf.checkpointed(lf.transformer_decoder_block(2, 6)), lf.select(0)),
        (SEQUENCE, normal(2, 7, 3)),
    ),
}


def by_autograd(net, params, x):
    """Run a network under autograd, and list each single layer's output with its gradients."""
    runs = []

    def tapped(layer):
        def forward(params, x):
            own = lf.tree.map(lambda leaf: leaf.detach().requires_grad_(), params)
            y, cache = layer.forward(own, x)
            # A copy, for a layer may hand on its input itself, which has other uses.
            y = lf.tree.map(torch.clone, y)
            floating = [leaf for leaf in lf.tree.leaves(y) if leaf.is_floating_point()]
            for leaf in floating:
                leaf.requires_grad_().retain_grad()
            runs.append((layer.name, floating, lf.tree.leaves(own)))
            return y, cache

        return layer.replace(forward=forward)

    y = lf.map_layers(tapped, net).forward(params, x)[0]
    SQUARES.forward(y, None)[0].backward()
    return runs


def norm(tensors):
    if not tensors:
        return None  # a mask alone
    return torch.cat([t.detach().double().flatten() for t in tensors]).norm().item()


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients_are_those_of_autograd_and_paths_those_of_the_network(name):
    net, x = NETWORKS[name]
    params, x = cast(net.init(lf.Key(1), x)), cast(x)
    records = trace(net, params, x, SQUARES, None)
    expected = by_autograd(net, params, x)
    assert [record.name for record in records] == [layer for layer, _, _ in expected]
    frozen = "frozen" in name
    # The squares of normalised numbers have one sum, so the norms' gradients cancel.
    terms = largest([y.grad for _, outputs, _ in expected for y in outputs])
    for record, (_, outputs, own) in zip(records, expected, strict=True):
        given = [leaf for leaf in lf.tree.leaves(record.output) if leaf.is_floating_point()]
        assert same_number(given, [leaf.detach() for leaf in outputs])
        # An output that has no use has no gradient to autograd, and zeros to a layer.
        gradients = [torch.zeros_like(y) if y.grad is None else y.grad for y in outputs]
        assert same_number(lf.tree.leaves(record.gradient), gradients, terms=terms)
        assert same_number(record.output_norm, norm(given))
        assert same_number(record.gradient_norm, norm(gradients), terms=terms)
        if own and not frozen:
            dparams = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
            assert same_number(record.dparams_norm, norm(dparams), terms=terms)
        assert record.non_finite is None
        # Its path leads to it.
        layer = net
        for position in filter(None, record.path.split(".")):
            layer = layer.parts[int(position)]
        assert layer.name == record.name
        assert layer.composition is None
    uses = [(record.path, record.use) for record in records]
    assert len(set(uses)) == len(uses)
    assert all(use == 1 or (path, use - 1) in uses for path, use in uses)


def test_frozen_parts_have_a_gradient_each_and_no_dparams():
    tied = lf.frozen(lf.tied(lf.embedding(7, 3), lf.dense(3)))
    net, x = lf.serial(tied, lf.dense(2)), torch.tensor([1, 2])
    records = trace(net, net.init(lf.Key(0), x), x, SQUARES, None)
    assert [record.gradient.shape for record in records] == [(2, 3), (2, 3), (2, 7), (2, 2)]
    assert [record.dparams_norm is None for record in records] == [True, True, True, False]


# Compositions of one's own


def in_two_halves(*parts):
    """Make `serial` of layers that keeps the input of each, and runs each again, last first."""

    def there(visit, params, x):
        kept = []
        for i, entry in enumerate(params):
            kept.append(x)
            x = visit(i, entry, x)[0]
        return x, tuple(kept)

    def back(visit, params, cache, g):
        records = [None] * len(params)
        for i in reversed(range(len(params))):
            again = visit.parts[i].forward(params[i], cache[i])[1]
            g, records[i] = visit(i, params[i], again, g)
        return g, tuple(records)

    return lf.walk.composition("in_two_halves", parts, there, back)


def scanned(reverse):
    cell = lf.serial(lf.parallel(lf.dense(4), lf.dense(4)), lf.add(), lf.tanh())
    return [
        lf.serial(lf.scan(each, reverse=reverse), lf.select(0))
        for each in (lf.checkpointed(cell), cell)
    ]


STEPS = normal(6, 5, 3).double(), normal(6, 4, seed=1).double()
# By name: a network that runs a part again, one that does not, x, and how many uses have how many
# gradients.
AGAIN = {
    "in another order": (in_two_halves(BLOCK, BLOCK), lf.serial(BLOCK, BLOCK), X, 6, 6),
    "shared": (lf.shared(lf.checkpointed(lf.dense(4))), lf.shared(lf.dense(4)), (X, 2 * X), 2, 2),
    "shared of shared": (
        lf.shared(lf.checkpointed(lf.shared(lf.dense(4)))), lf.shared(lf.shared(lf.dense(4))),
        ((X, 2 * X), (3 * X, 4 * X)), 4, 4),
    "a scan": (*scanned(False), STEPS, 5 * 4 + 1, 10),
    "a scan from the end": (*scanned(True), STEPS, 5 * 4 + 1, 10),
}  # fmt: skip


@pytest.mark.parametrize("name", AGAIN)
def test_each_use_of_a_part_that_is_run_again_has_its_own_gradient(name):
    net, plain, x, uses, least = AGAIN[name]
    params = plain.init(lf.Key(0), x)
    again, once = (trace(layer, params, x, SQUARES, None) for layer in (net, plain))
    assert len(again) == len(once) == uses
    assert len({(record.gradient_norm, record.dparams_norm) for record in once}) >= least
    for record, expected in zip(again, once, strict=True):
        assert record.name == expected.name
        assert record.path.endswith(expected.path)  # behind that of `checkpointed`
        assert same_number((record.output, record.gradient), (expected.output, expected.gradient))
        assert record.dparams_norm == expected.dparams_norm


@pytest.mark.parametrize(
    ("method", "stages", "weighted", "growth"), [("euler", 1, 0, 0.3), ("midpoint", 2, 1, 3.0)]
)
def test_the_gradients_of_a_continuous_ode_are_found_at_their_times(
    method, stages, weighted, growth
):
    params = lf.layers.dense.Params(growth * (torch.eye(3) + 0.03).double(), None)
    traces = []
    for adjoint in ("discrete", "continuous"):
        field = lf.dense(3, bias=False)
        net = lf.ode(field, method=method, steps=60, adjoint=adjoint)
        traces.append(trace(net, params, X[:, :3], SQUARES, None))
    discrete, continuous = traces
    assert len(continuous) == len(discrete) == 60 * stages
    reached = [record for record in continuous if record.gradient is not None]
    assert reached == list(continuous[weighted::stages])
    # From one end to the other the gradient changes by the factor e^growth.
    norms = [record.gradient_norm for record in discrete[weighted::stages]]
    assert norms[0] / norms[-1] > 1 + growth
    for record, expected in zip(reached, norms, strict=True):
        assert same_number(record.gradient_norm, expected, error=0.04 * growth)


def test_a_layer_that_is_run_in_backward_alone_has_no_record():
    def there(visit, params, x):
        return visit(0, (), x)[0], x

    def back(visit, params, x, g):
        return visit(1, (), visit.parts[1].forward((), x)[1], g)

    net = lf.walk.composition("with_surrogate", (lf.hardtanh(), lf.tanh()), there, back)
    (record,) = trace(net, (), X, SQUARES, None)
    assert (record.name, record.gradient) == ("hardtanh()", None)


# Dead units


IMAGES, STEPS_OF_ONE = torch.zeros(2, 4, 3, 5), torch.zeros(2, 4, 5)
IMAGES[1, 0, 2, 4] = IMAGES[0, 2, 0, 0] = IMAGES[0, 3, 1, 1] = STEPS_OF_ONE[0, 1, 2] = 1
HALF = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, -0.0, 1e-30]])
# y, the axis of its units, and the share of them that is zero for every example.
DEAD = {
    "features": (HALF, None, 0.5),
    "features of a sequence": (HALF.unsqueeze(1).expand(2, 3, 4), None, 0.5),
    "nan": (torch.tensor([[0.0, torch.nan], [0.0, 0.0]]), None, 0.5),
    "channels of images": (IMAGES, None, 0.25),
    "channels of volumes": (IMAGES.unsqueeze(-1), None, 0.25),
    "rows of images": (IMAGES, 3, 1 - 3 / 5),
    "features of one step": (STEPS_OF_ONE, None, 4 / 5),
    "steps": (STEPS_OF_ONE, 1, 3 / 4),
    "several outputs": ((torch.zeros(2, 1), torch.ones(2, 3)), None, 0.25),
    "no units": (torch.zeros(5), None, None),
    "no examples": (torch.zeros(0, 5), None, None),
    "no such axis": (torch.zeros(2, 5), 2, None),
}


@pytest.mark.parametrize(("y", "unit_axis", "share"), DEAD.values(), ids=DEAD)
def test_a_unit_is_dead_if_it_is_zero_for_every_example(y, unit_axis, share):
    layer = lf.Layer("given()", lambda params, x: (y, None), lambda params, cache, g: (g, ()))
    (record,) = trace(layer, (), X, SQUARES, None, unit_axis=unit_axis)
    assert record.dead == share


# Values that are not finite


def test_the_first_value_of_an_output_that_is_not_finite_is_told():
    x = torch.tensor([[1.0, 4.0], [-1.0, 0.0], [-4.0, 1.0]])
    root = lf.Layer(
        "root()",
        forward=lambda params, x: (x.sqrt(), x),
        backward=lambda params, x, g: (g / (2 * x.sqrt()), ()),
    )
    records = trace(lf.serial(lf.identity(), root, lf.tanh()), ((), (), ()), x, SQUARES, None)
    assert (records[1].non_finite.where, records[1].non_finite.index) == ("output", (1, 0))
    assert str(records[1].non_finite) == "output[1, 0] is nan"
    # The layer before it gave what is finite, and got what is not: -inf or nan where x <= 0.
    assert (records[0].non_finite.where, records[0].non_finite.index) == ("gradient", (1, 0))


def test_a_value_in_a_tuple_is_told_with_its_entry():
    x = (torch.zeros(2), torch.tensor([0.0, -torch.inf]))
    net = lf.parallel(lf.identity(), lf.identity())
    pair = lf.Layer("pair()", lambda params, x: (x, None), lambda params, cache, g: (g, ()))
    (record,) = trace(pair, (), x, SQUARES, None)
    assert record.non_finite == NonFinite("output", "1", (1,), -torch.inf)
    assert str(record.non_finite) == "output.1[1] is -inf"
    assert [r.non_finite is None for r in trace(net, ((), ()), x, SQUARES, None)] == [True, False]


def test_a_norm_is_taken_in_double_precision():
    x = torch.full((4,), 1e30)
    (record,) = trace(lf.identity(), (), x, lf.losses.l1(), torch.zeros(4))
    assert same_number(record.output_norm, 2e30, dtype=torch.float32)


# What is returned


def test_the_records_are_a_tuple_and_their_str_a_table():
    x = torch.tensor([[3.0, 0.0], [4.0, 0.0]])
    pair = lf.Layer(
        "pair()", lambda p, x: ((x, 2 * x), None), lambda p, c, g: (g[0] + 2 * g[1], ())
    )
    net = lf.serial(lf.dense(2, bias=False), lf.relu(), pair, lf.shared(lf.identity()), lf.add())
    params = (lf.layers.dense.Params(torch.eye(2), None), (), (), (), ())
    records = trace(net, params, x, SQUARES, None)
    assert isinstance(records, Trace)
    assert isinstance(records, tuple)
    two = "(float32[2, 2], float32[2, 2])"
    assert str(records).splitlines() == [
        f"path  layer                 {'output':30}  |output|  |gradient|  |dparams|   dead",
        "─" * 100,
        f"0     dense(2, bias=False)  {'float32[2, 2]':30}         5          90        450  50.0%",
        f"1     relu()                {'float32[2, 2]':30}         5          90          -  50.0%",
        f"2     pair()                {two:30}     11.18       42.43          -  50.0%",
        f"3.0   identity()            {'float32[2, 2]':30}         5          30          -  50.0%",
        f"3.0   identity(), use 2     {'float32[2, 2]':30}        10          30          -  50.0%",
        f"4     add()                 {'float32[2, 2]':30}        15          30          -  50.0%",
    ]
    assert list(records.outputs()) == [record.label for record in records]
    assert records.outputs()["1 relu()"] is records[1].output
    assert same_number(
        records.gradient_norms(),
        dict(zip(records.outputs(), (90, 90, 30 * 2**0.5, 30, 30, 30), strict=True)),
        dtype=torch.float32,
    )


def test_nothing_is_changed():
    net = lf.serial(lf.dense(4), lf.batch_norm(), lf.dropout(), lf.dense(2))
    params = net.init(lf.Key(0), X)
    before = [leaf.clone() for leaf in lf.tree.leaves(params, states=True)]
    trace(net, params, X, SQUARES, None)
    after = lf.tree.leaves(params, states=True)
    assert same_bits(before, after)


def test_a_loss_of_several_numbers_is_refused():
    loss = lf.losses.mse(reduction="none")
    with pytest.raises(lf.LayerError, match=r"mse.*expected one number, got \(6, 3\).*'mean'"):
        trace(lf.tanh(), (), X, loss, torch.zeros(6, 3).double())


def test_an_input_that_does_not_fit_is_refused_with_its_place():
    net = lf.serial(lf.tanh(), lf.checkpointed(lf.dense(2)))
    params = net.init(lf.Key(0), X)
    with pytest.raises(lf.LayerError, match=r"serial\[1\] checkpointed\[0\] dense\(2\).*3"):
        trace(net, params, X[:, :2], SQUARES, None)
