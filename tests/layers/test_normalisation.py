"""Normalisations: what the table of layers cannot say, of the formulas and of their fast twins."""

import attrs
import pytest
import torch
from helpers import assert_refused, assert_says, cast, first_run, run
from helpers.compare import same_bits, same_number
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.core.signatures import unbound, unchanged
from lincoln_fn.fastpath import fast
from lincoln_fn.fastpath import normalisation as twins
from lincoln_fn.layers import batch_norm, instance_norm


def normal(*shape, seed=0, dtype=torch.float64):
    return lf.keys.normal(lf.Key(seed), shape, dtype=dtype)


def is_fast(layer):
    return ".fastpath." in unbound(layer.forward).__module__


def with_fast(layers):
    """Make parameters for a test of layers: each, and its fast twin if it has one."""
    params = []
    for layer in layers:
        params.append(pytest.param(layer, id=str(layer)))
        if is_fast(fast(layer)):
            params.append(pytest.param(fast(layer), id=f"fast {layer}"))
    return params


# Running statistics.


either = pytest.mark.parametrize("change", [lambda layer: layer, fast], ids=["formula", "fast"])


@either
@pytest.mark.parametrize(("norm", "module", "shape", "options"), [
    *((lf.batch_norm, torch.nn.BatchNorm1d, (5, 3), {"momentum": momentum})
        for momentum in (0.1, 0.7, None)),
    (lf.batch_norm, torch.nn.BatchNorm2d, (4, 3, 5, 2), {"momentum": None}),
    *((lf.instance_norm, torch.nn.InstanceNorm1d, (4, 3, 5),
        {"momentum": 0.2, "affine": affine, "track_running_stats": True})
        for affine in (False, True)),
])  # fmt: skip
def test_running_statistics_are_torchs_after_ten_steps(norm, module, shape, options, change):
    theirs, ours = module(3, **options), change(norm(**options))
    params = ours.init(lf.Key(0), torch.empty(shape))
    for i in range(10):
        x = normal(*shape, seed=i, dtype=torch.float32) * (i + 1) + i
        theirs(x)
        params = ours.advance(params, ours.forward(params, x)[1])
    assert same_number(params.running.mean, theirs.running_mean)
    assert same_number(params.running.var, theirs.running_var)
    assert params.running.num_batches == 10
    assert same_number(ours.predict(params, x), theirs.eval()(x).detach())


@either
def test_without_momentum_statistics_are_the_average_of_all_batches(change):
    """Also those of instance_norm; torch's then stay at their start."""
    layer = change(lf.instance_norm(momentum=None, track_running_stats=True))
    batches = [normal(1, 2, 4, seed=i) for i in range(7)]
    params = layer.init(lf.Key(0), batches[0])
    for x in batches:
        params = layer.advance(params, layer.forward(params, x)[1])
    assert same_number(params.running.mean, torch.stack([x.mean((0, 2)) for x in batches]).mean(0))
    assert same_number(params.running.var, torch.stack([x.var((0, 2)) for x in batches]).mean(0))


@either
@pytest.mark.parametrize("norm", [lf.batch_norm, lf.instance_norm])
def test_without_running_statistics_predict_is_forward_and_nothing_advances(norm, change):
    layer = change(norm(track_running_stats=False, eps=0.5))
    x = normal(4, 3, 5)
    params, y, cache = first_run(layer, x)
    assert params.running is None
    assert layer.advance is unchanged
    assert same_bits(layer.predict(params, x), y)
    own_advance = change(norm(track_running_stats=True)).advance
    assert own_advance(params, cache) is params


# Edges.


@either
def test_one_value_a_channel_has_no_statistics(change):
    problem = "expected more than one value for each channel, got x of shape"
    layer, x = change(lf.batch_norm()), torch.zeros(1, 3)
    params = layer.init(lf.Key(0), x)
    assert_refused(f"batch_norm: {problem} (1, 3)", layer.forward, params, x)
    assert same_bits(layer.predict(params, x), x)
    net = lf.serial(lf.dense(3), layer)
    of_net = net.init(lf.Key(0), x)
    assert_refused(f"serial[1] batch_norm(): {problem} (1, 3)", net.forward, of_net, x)
    layer, x = change(lf.instance_norm()), torch.zeros(5, 3, 1, 1)
    params = instance_norm.Params(None, None, None)
    assert_refused(f"instance_norm: {problem} (5, 3, 1, 1)", layer.forward, params, x)


LAYERS = [
    lf.batch_norm(), lf.instance_norm(affine=True), lf.group_norm(2), lf.layer_norm(),
    lf.layer_norm((-1, -1, -1)), lf.rms_norm(), lf.local_response_norm(3, alpha=0.5),
]  # fmt: skip
CENTRED = LAYERS[:5]


def started(layer, x):
    """Params that are no ones and zeros."""
    count = iter(range(9))
    return lf.tree.map(
        lambda leaf: normal(*leaf.shape, seed=20 + next(count), dtype=leaf.dtype),
        layer.init(lf.Key(0), x),
    )


@pytest.mark.parametrize("layer", with_fast(CENTRED))
def test_constant_input_gives_the_bias_and_a_finite_gradient(layer):
    x, g = torch.full((3, 4, 2, 5), 7.0), normal(3, 4, 2, 5, dtype=torch.float32)
    params = started(layer, x)
    y, dx, dparams = run(layer, params, x, g)
    channels = layer.name[:5] != "layer"
    expected = params.bias.view(-1, 1, 1) if channels else params.bias
    # x rstd and mean rstd, both about 7 / sqrt(eps), cancel to the last bits of float32.
    assert same_number(y, expected.expand_as(y), terms=7 / 1e-5**0.5, length=4)
    # rstd = 1 / sqrt(eps): large, not infinite.
    assert 1 < dx.abs().max() < 1e4
    assert dparams.weight.abs().max() < 1e-2


def errors(layer, params, x, g, dtype=torch.float32):
    """Errors of y, dx and dparams against float64's, relative to the largest element of each."""
    given, exact = (lf.tree.leaves(run(layer, *t)) for t in ((params, x, g), cast((params, x, g))))
    assert all(leaf.dtype is dtype and torch.isfinite(leaf).all() for leaf in given)
    return [
        ((a.double() - b).abs().max() / b.abs().max()).item()
        for a, b in zip(given, exact, strict=True)
    ]


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("layer", with_fast(CENTRED))
def test_a_large_mean_does_not_drown_the_variance(layer, memory):
    x = (normal(8, 4, 9, 7, dtype=torch.float32) + 1e4).contiguous(memory_format=memory)
    g = normal(8, 4, 9, 7, seed=1, dtype=torch.float32)
    # float32 holds a mean of 1e4 to 5e-4 at best, a standard deviation being 1 here, and the
    # kernels leave it at that; the mean of squares less the square of the mean would be off by
    # several times the variance.
    limit = 1e-2 if is_fast(layer) else 1e-5
    assert max(errors(layer, started(layer, x), x, g)) < limit


@pytest.mark.parametrize("norm", [lf.batch_norm(), lf.instance_norm(track_running_stats=True)])
def test_predict_subtracts_a_large_mean_first(norm):
    x = normal(8, 4, 9, dtype=torch.float32) + 1e4
    params = norm.init(lf.Key(0), x)
    running = batch_norm.Running(torch.full((4,), 1e4), torch.ones(4), torch.tensor(1))
    params = attrs.evolve(params, running=running)
    exact = norm.predict(cast(params), x.double())
    assert same_number(norm.predict(params, x), exact, dtype=torch.float32)


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layer", with_fast(LAYERS))
def test_each_dtype_is_close_cast(layer, dtype, scale):
    # float16 ends at 65504, so squares of more than 255 have no place there.
    x, g = scale * normal(8, 4, 3, 7, dtype=dtype), normal(8, 4, 3, 7, seed=1, dtype=dtype)
    params = started(layer, x)
    of_params = dtype is torch.float32 or scale == 1.0
    limit = 1e-5 if dtype is torch.float32 else 0.02 if scale == 1.0 else 0.03
    assert max(errors(layer, params, x, g, dtype)[: None if of_params else 2]) < limit
    advanced = layer.advance(params, layer.forward(params, x)[1])
    before, after = (lf.tree.leaves(p, states=True) for p in (params, advanced))
    assert [leaf.dtype for leaf in after] == [leaf.dtype for leaf in before]
    assert layer.predict(params, x).dtype is dtype


@pytest.mark.full
@either
@pytest.mark.parametrize(("shape", "memory"), [
    ((2**22, 1), torch.contiguous_format), ((2**20, 2, 4), torch.contiguous_format),
    ((2**11, 2, 32, 32), torch.channels_last),
], ids=str)  # fmt: skip
def test_batch_norm_is_right_over_millions_of_rows(shape, memory, change):
    # A sum that goes number by number has lost three digits by then.
    layer = change(lf.batch_norm())
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=numbers).contiguous(memory_format=memory) + 3
    g = x + torch.randn(shape, generator=numbers)
    params = started(layer, x)
    assert max(errors(layer, params, x, g)) < 1e-5
    running = layer.advance(params, layer.forward(params, x)[1]).running
    places = (0, *range(2, x.ndim))
    old = params.running
    assert same_number(
        running.mean, 0.9 * old.mean + 0.1 * x.double().mean(places), dtype=torch.float32
    )
    assert same_number(
        running.var, 0.9 * old.var + 0.1 * x.double().var(places), dtype=torch.float32
    )


@pytest.mark.parametrize("most", [1, 10**9], ids=["neighbours", "as it is"])
@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 1), (6, 3, 4), (6, 3, 4, 5)])
def test_fast_batch_norm_brings_many_numbers_together(shape, most, monkeypatch):
    monkeypatch.setattr(twins, "MOST_VALUES", most)
    layer = lf.batch_norm()
    x, g = normal(*shape), normal(*shape, seed=1)
    x, g = x.transpose(0, 1).contiguous().transpose(0, 1), g
    params = started(layer, x)
    assert same_number(run(fast(layer), params, x, g), run(layer, params, x, g))


# Empty batches.


@either
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (0, 3, 4, 5)])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_an_empty_batch_goes_through_batch_norm_as_through_torchs(shape, momentum, change):
    kind = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}[len(shape)]
    theirs = kind(3, momentum=momentum)
    layer = change(lf.batch_norm(momentum=momentum))
    x = torch.zeros(shape)
    params, y, cache = first_run(layer, x)
    expected = theirs(x.requires_grad_())
    expected.sum().backward()
    dx, dparams = layer.backward(params, cache, torch.ones_like(y))
    assert y.shape == dx.shape == expected.shape
    assert same_bits((dparams.weight, dparams.bias), (theirs.weight.grad, theirs.bias.grad))
    running = layer.advance(params, cache).running
    assert same_bits((running.mean, running.var), (theirs.running_mean, theirs.running_var))
    assert same_bits(running.num_batches, theirs.num_batches_tracked)
    assert layer.predict(params, x.detach()).shape == shape


@pytest.mark.parametrize("shape", [(0, 4, 3, 7), (2, 4, 3, 0)])
@pytest.mark.parametrize("layer", with_fast(LAYERS))
def test_nothing_in_gives_nothing_out_and_gradients_of_zero(layer, shape):
    if torch.__version__ < "2.13" and layer.name.startswith("local") and 0 in shape[1:]:
        pytest.skip("an older torch cannot pad nothing")
    x = torch.zeros(shape)
    params = layer.init(lf.Key(0), x)
    y, dx, dparams = run(layer, params, x, x)
    assert y.shape == dx.shape == shape
    assert all((leaf == 0).all() for leaf in lf.tree.leaves(dparams))


@either
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0)])
def test_an_empty_batch_leaves_the_statistics_of_instance_norm(shape, change):
    layer = change(lf.instance_norm(track_running_stats=True))
    x = torch.zeros(shape)
    params = layer.init(lf.Key(0), x)
    running = layer.advance(params, layer.forward(params, x)[1]).running
    assert same_bits((running.mean, running.var), (params.running.mean, params.running.var))
    assert running.num_batches == 1


# Spatial axes.


def test_one_spatial_axis_of_batch_norm_may_be_left_out():
    layer = lf.batch_norm(spatial_axes=1)
    for x in (normal(5, 3), normal(5, 3, 4)):
        params = layer.init(lf.Key(0), x)
        assert same_bits(layer.forward(params, x)[0], lf.batch_norm().forward(params, x)[0])


# Initial parameters, errors and names.


@pytest.mark.parametrize("layer", LAYERS[:-1], ids=str)
def test_parameters_start_at_one_and_zero(layer):
    x = normal(8, 4, 3, 7)
    params = layer.init(lf.Key(0), x)
    assert params.weight.dtype is x.dtype
    assert (params.weight == 1).all()
    if hasattr(params, "bias"):
        assert params.bias.shape == params.weight.shape
        assert (params.bias == 0).all()
    if layer.name == "batch_norm()":
        assert (params.running.mean == 0).all()
        assert (params.running.var == 1).all()
        assert params.running.mean.dtype is params.running.var.dtype is x.dtype
        assert params.running.num_batches.dtype is torch.int64


def test_parameters_left_out_are_none():
    x = normal(8, 4, 3)

    def of(layer):
        return layer.init(lf.Key(0), x)

    assert of(lf.batch_norm(affine=False)).weight is of(lf.batch_norm(affine=False)).bias is None
    assert of(lf.instance_norm()).weight is of(lf.instance_norm()).running is None
    assert of(lf.group_norm(2, affine=False)).bias is None
    assert of(lf.layer_norm(elementwise_affine=False)).bias is None
    without_bias = of(lf.layer_norm(bias=False))
    assert without_bias.bias is None
    assert without_bias.weight.shape == (3,)
    for norm in (lf.batch_norm, lf.group_norm, lf.instance_norm):
        layer = norm(*((2,) if norm is lf.group_norm else ()), affine=True, bias=False)
        assert of(layer).bias is None
        assert of(layer).weight.shape == (4,)
    assert of(lf.rms_norm((4, -1))).weight.shape == (4, 3)


ERRORS = [
    (lf.batch_norm(), (5, 3), (5, 4), "batch_norm: expected x of shape (N, 3, ...), got (5, 4)"),
    (lf.batch_norm(affine=False, track_running_stats=False), (5, 3), (3,),
        "batch_norm: expected x of shape (N, C, ...), got (3,)"),
    (lf.instance_norm(), (5, 3, 4), (5, 3),
        "instance_norm: expected x of shape (N, C, L1, ...), got (5, 3)"),
    (lf.instance_norm(track_running_stats=True), (5, 3, 4), (5, 2, 4),
        "instance_norm: expected x of shape (N, 3, L1, ...), got (5, 2, 4)"),
    (lf.group_norm(2, affine=False), (5, 4), (5, 3),
        "group_norm: expected C to be a multiple of num_groups=2, got x of shape (5, 3)"),
    (lf.layer_norm(), (5, 3), (5, 4), "layer_norm: expected x of shape (..., 3), got (5, 4)"),
    (lf.layer_norm((-1, 3), elementwise_affine=False), (5, 3), (3,),
        "layer_norm: expected x of shape (..., *, 3), got (3,)"),
    (lf.rms_norm((2, 3)), (2, 3), (3, 2), "rms_norm: expected x of shape (..., 2, 3), got (3, 2)"),
    (lf.local_response_norm(3), (5, 3), (5,),
        "local_response_norm: expected x of shape (N, C, ...), got (5,)"),
    (lf.batch_norm(spatial_axes=1), (5, 3), (5, 3, 4, 2),
        "batch_norm: expected x of shape (N, 3) or (N, 3, L1), got (5, 3, 4, 2)"),
    (lf.instance_norm(affine=True, spatial_axes=2), (3, 4, 2), (2, 4, 2),
        "instance_norm: expected x of shape (N, 3, L1, L2) or (3, L1, L2), got (2, 4, 2)"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "shape", "wrong", "message"), ERRORS, ids=lambda v: str(v)[:40])
def test_wrong_shapes_are_named(layer, shape, wrong, message):
    params = layer.init(lf.Key(0), torch.empty(shape))
    for function in (layer.forward, layer.predict, fast(layer).forward, fast(layer).predict):
        assert_refused(message, function, params, torch.empty(wrong))


@either
@pytest.mark.parametrize("norm", [lf.batch_norm, lf.instance_norm], ids=["batch", "instance"])
def test_advance_refuses_what_belongs_to_another_layer(norm, change):
    layer = change(norm(affine=False, track_running_stats=True))
    x = normal(2, 3, 4)
    params = layer.init(lf.Key(0), x)
    assert_says("expected the cache of its own forward", layer.advance, params, None)
    assert_says("expected params", layer.advance, (), layer.forward(params, x)[1])


test_constructors_and_init_refuse_what_has_no_meaning = refusals("""
layer_norm(()) -> ^layer_norm: expected normalized_shape with at least one entry, got ()$
rms_norm((3, 0)) -> ^rms_norm: expected normalized_shape[1] positive or -1, got 0$
lf.batch_norm().init(Key(0), torch.empty(3)) -> ^batch_norm: expected x of shape (N, C, ...), got
    (3,)$
group_norm(2).init(Key(0), torch.empty(5, 3)) -> ^group_norm: expected C to be a multiple of
    num_groups=2, got x of shape (5, 3)$
layer_norm(4).init(Key(0), torch.empty(5, 3)) -> ^layer_norm: expected x of shape (..., 4), got (5,
    3)$
""")


@pytest.mark.parametrize("field", ["mean", "var"])
@pytest.mark.parametrize(
    "norm", with_fast([lf.batch_norm(), lf.instance_norm(0.5, 0.1, True, True)])
)
def test_running_statistics_do_not_broadcast(norm, field):
    x = normal(2, 3, 4)
    params = norm.init(lf.Key(0), x)
    running = attrs.evolve(params.running, **{field: torch.ones(1, dtype=x.dtype)})
    params = attrs.evolve(params, running=running)
    assert_says(f"expected running.{field} of shape (3,), got (1,)", norm.predict, params, x)


@pytest.mark.parametrize("value", [0.1, 3.0, 1e4 + 0.3])
@pytest.mark.parametrize(("layer", "shape"), [
    (lf.layer_norm(), (4, 33)), (lf.group_norm(3), (2, 6, 7, 5)), (lf.batch_norm(), (5, 6, 7, 3)),
    (lf.batch_norm(), (64, 6)),
], ids=str)  # fmt: skip
def test_a_constant_input_is_normalised_as_exactly_by_faster_functions(layer, shape, value):
    x, g = torch.full(shape, value), normal(*shape, dtype=torch.float32)
    params = layer.init(lf.Key(0), x)
    y, dx, _ = run(lf.fast(layer), params, x, g)
    exact, of_exact, _ = run(layer, *cast((params, x, g)))
    assert same_number(y, exact.float(), terms=1.0)
    assert same_number(dx, of_exact.float())
