"""A step that may write over its state gives the same numbers, and fails without having written."""

import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import CE, assert_refused, assert_same_steps, begin, copied, taken
from helpers.compare import same_bits, same_number
from helpers.compiling import T, X, compiles, compiles_in_full, remembering
from helpers.graphs import column_major, trace

import lincoln_fn as lf
from lincoln_fn.compiler.inductor.settings import IS_KNOWN
from lincoln_fn.compiler.passes.donation import donate, make_handover
from lincoln_fn.recording import flatten

WIDE = lf.keys.normal(lf.Key(3), (6, 90))
IMAGES = lf.keys.normal(lf.Key(1), (6, 2, 7, 8))
NETS = {
    "dense": (lf.serial(lf.dense(4), lf.sigmoid(), lf.dense(3, bias=False)), X),
    "wide": (lf.serial(lf.dense(100), lf.tanh(), lf.dense(3)), WIDE),
    "states": (lf.serial(lf.dense(4), lf.batch_norm(), lf.dropout(0.3), lf.dense(3)), X),
    "convolution": (
        lf.serial(lf.conv2d(3, 3), lf.relu(), lf.max_pool2d(2), lf.flatten(), lf.dense(3)),
        IMAGES,
    ),
}
OPTIMIZERS = [lf.optim.sgd(0.1), lf.optim.sgd(0.1, momentum=0.9), lf.optim.adamw(0.01)]
WAYS = [pytest.param(False, id="eager"), pytest.param(True, id="compiled", marks=compiles)]
# Of a leaf that is updated in place, where torch is known to do that in order.
UPDATED = "updated" if IS_KNOWN else "output"


@functools.cache
def stepping(net, optimizer, compiled):
    """Make a step, the same for all tests that ask for it."""
    step = lf.make_step(net, CE, optimizer, donate=True)
    return lf.compile(step) if compiled else step


def begun(net, optimizer, x, compiled=False):
    return stepping(net, optimizer, compiled), lf.init_state(net, optimizer, lf.Key(2), x)


CASES = [(name, optimizer) for name in NETS for optimizer in OPTIMIZERS]
# Two of what no other test here compiles and compares with the pure step.
COMPILED = [("states", OPTIMIZERS[2]), ("convolution", OPTIMIZERS[1])]


RUNS = [
    *((*case, False) for case in CASES),
    *(pytest.param(*case, True, marks=compiles) for case in COMPILED),
]


@pytest.mark.full(but=("False",))
@pytest.mark.parametrize(("name", "optimizer", "compiled"), RUNS, ids=str)
def test_the_numbers_are_those_of_the_pure_step(name, optimizer, compiled):
    net, x = NETS[name]
    donating, state = begun(net, optimizer, x, compiled)
    # Where a gradient is zero but for rounding, adamw makes steps of its sign: three of 0.01.
    is_sign = name == "states" and "adamw" in str(optimizer)
    same = functools.partial(same_number, terms=1.0, error=0.06) if is_sign else same_number
    pure = lf.make_step(net, CE, optimizer)
    assert_same_steps(donating, pure, state, *[(x, T)] * 3, same=same)


@pytest.mark.full(but=("eager",))
@pytest.mark.parametrize("compiled", WAYS)
def test_a_weight_stays_where_it_is_and_the_old_state_is_empty(compiled):
    if compiled and not IS_KNOWN:
        pytest.skip("of an older torch, the new state has memory of its own")
    # The optimizer with which this network is compiled above.
    optimizer = OPTIMIZERS[2] if compiled else lf.optim.sgd(0.1)
    step, state = begun(NETS["states"][0], optimizer, X, compiled)
    old, count = state.params[0].weight, state.step
    place, key = old.data_ptr(), state.key
    new, _ = step(state, (X, T))
    assert new.params[0].weight.data_ptr() == place
    assert new.params[0].weight.shape == (5, 4)
    assert old.shape == (0, 0)
    assert (old.dtype, count.dtype) == (torch.float32, torch.int64)
    assert new.key.bits is key.bits
    message = (
        "step: expected a state that no step has updated in place, got params.0.weight empty; "
        "keep a copy, or use a step without donate"
    )
    assert_refused(message, step, state, (X, T))


def test_what_is_not_written_over_stays_whole():
    @lf.record
    class Kept(lf.State):
        value: torch.Tensor

    empty, kept = torch.empty(0, 3), torch.ones(3)
    layer = lf.Layer(
        "biased()",
        lambda params, x: (x[:, :3] + params[1].value + params[2], None),
        lambda params, cache, g: (None, (torch.zeros(0, 3), params[1], g.sum(0))),
        lambda key, x: (empty, Kept(kept), torch.zeros(3)),
    )
    step, state = begun(layer, lf.optim.sgd(0.1), X)
    new, _ = step(state, (X, T))
    assert state.params[0].shape == (0, 3)
    assert new.params[1].value is kept
    assert same_number(kept, torch.ones(3))
    assert state.params[2].shape == (0, 0)


def test_an_optimizer_that_writes_over_nothing_leaves_the_old_state_whole():
    step, state = begun(NETS["dense"][0], lf.optim.rmsprop(0.01), X)
    before = copied(state)
    step(state, (X, T))
    assert same_bits(state, before)


@pytest.mark.full(but=("eager",))
@pytest.mark.parametrize("compiled", WAYS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS[:2], ids=str)
@pytest.mark.parametrize("problem", ["nan", "label"])
def test_a_step_that_fails_has_written_nothing(problem, optimizer, compiled):
    step, state = begun(NETS["dense"][0], optimizer, X, compiled)
    state, _ = taken(step, state, *[(X, T)] * 4)  # the last of them recorded
    before = copied(state)
    with pytest.raises(lf.LayerError):
        step(state, (X / 0, T) if problem == "nan" else (X, T + 1))
    assert same_bits(state, before)
    assert_same_steps(step, lf.make_step(step.net, CE, optimizer), state, (X, T))


def test_what_becomes_of_each_leaf_of_a_compiled_step():
    step, state = begun(NETS["states"][0], lf.optim.sgd(0.1), X)
    traced = trace(step, state, (X, T))
    fates = donate(traced, len(flatten(state)[0]))
    named = dict(zip(lf.tree.paths(state, states=True), fates, strict=True))
    kept = {name for name, fate in named.items() if fate == "kept"}
    assert kept == {"key.bits"}
    assert {fate for name, fate in named.items() if name not in kept} == {UPDATED}
    # The graph returns what it does not update, and the value.
    (returned,) = traced.graph.graph.output_node().args
    assert len(returned) == 1 + fates.count("output")


def test_a_leaf_that_would_lie_otherwise_is_an_output():
    turning = lf.Optimizer(
        "turning()", lambda params: (), lambda p, dp, s: (lf.tree.map(lambda x: x.mT + 0, p), s)
    )
    layer = lf.Layer(
        "square()",
        lambda params, x: (x[:, :3] @ params, x[:, :3]),
        lambda params, x, g: (None, x.mT @ g),
        lambda key, x: torch.eye(3),
    )
    step, state = begun(layer, turning, X)
    fates = donate(trace(step, state, (X, T)), len(flatten(state)[0]))
    assert fates[0] == "output"


def test_each_leaf_is_handed_over_as_its_fate_says():
    old = [torch.full((n,), float(n)) for n in range(1, 6)]
    given, last = torch.ones(2), torch.ones(5)
    fates = ["updated", "output", "kept", "updated", "output"]
    places = [leaf.data_ptr() for leaf in old]
    new = make_handover(fates, old)(old, [given, last])
    assert new[1] is given
    assert new[2] is old[2]
    assert new[4] is last
    assert [new[i].data_ptr() for i in (0, 3)] == [places[i] for i in (0, 3)]
    assert [new[i].tolist() for i in (0, 3)] == [[1.0], [4.0] * 4]
    assert [leaf.tolist() for leaf in old] == [[], [2.0] * 2, [3.0] * 3, [], [5.0] * 5]


@pytest.mark.full(but=("eager",))
@pytest.mark.parametrize("compiled", WAYS)
@pytest.mark.parametrize("donate", [False, True])
def test_column_major_weights_give_the_same_numbers_and_stay_so(donate, compiled):
    (step, state), (pure, _) = (begin(NETS["wide"][0], WIDE, donate=d) for d in (donate, False))
    run = lf.compile(step) if compiled else step
    new, _ = taken(run, column_major(copied(state)), *[(WIDE, T)] * 3)
    assert same_number(new, taken(pure, state, *[(WIDE, T)] * 3)[0])
    assert [params.weight.stride() for params in new.params if params] == [(1, 90), (1, 100)]


@compiles_in_full
def test_a_product_with_a_leaf_of_the_state_is_made_before_that_is_written_over():
    def forward(params, x):
        a, b = params
        return x @ a @ b, x

    def grads(params, x, g):
        a, b = params
        return x.mT @ (g @ b.mT), (x @ a).mT @ g

    layer = lf.Layer(
        "product()",
        forward,
        lambda params, x, g: (g @ (params[0] @ params[1]).mT, grads(params, x, g)),
        lambda key, x: (lf.keys.normal(key, (5, 4)), lf.keys.normal(key.fold_in(1), (4, 3))),
    )
    (step, state), (pure, _) = (begin(layer, X, donate=donate) for donate in (True, False))
    assert_same_steps(lf.compile(step), pure, state, (X, T))


# Steps of states whose tensors share memory, or are changed between two calls.


BOTH_WAYS = [pytest.param(way, marks=[compiles, pytest.mark.full]) for way in ("donated", "kept")]
# Eager and compiled steps that update their state in place, and the graph of one that keeps it.
each_way = pytest.mark.parametrize("way", ["eager", *BOTH_WAYS], indirect=True)
BATCH = X, T
NET = lf.serial(lf.dense(5, bias=False), lf.tanh(), lf.dense(5), lf.dense(3))


@pytest.fixture
def way(request):
    if request.param == "kept":
        request.getfixturevalue("uncompiled")
    return request.param


def assert_steps_are_those_of_a_copy(way, net, optimizer, state=None, gradient=None):
    step, first = begin(net, X, CE, optimizer, gradient=gradient, donate=way != "kept")
    pure = lf.make_step(net, CE, optimizer, gradient=gradient)
    run = step if way == "eager" else lf.compile(step)
    assert_same_steps(run, pure, state or first, *[BATCH] * 3)


def descended(params, grads):
    return lf.tree.map(lambda p, dp: p - 0.1 * dp, params, grads)


def keeping_last():
    """An optimizer whose state is the params before the update."""
    return lf.Optimizer("keeping_last()", lambda p: p, lambda p, dp, last: (descended(p, dp), p))


def keeping_views():
    """An optimizer whose state is a view of the first numbers of each parameter before it."""

    def of(params):
        return lf.tree.map(lambda p: p.reshape(-1)[:2], params)

    return lf.Optimizer("keeping_views()", of, lambda p, dp, last: (descended(p, dp), of(p)))


def swapping():
    """An optimizer that trades params and state at every step."""
    return lf.Optimizer(
        "swapping()",
        lambda params: lf.tree.map(lambda p: p + 1, params),
        lambda params, grads, other: (other, descended(params, grads)),
    )


def keeping_new():
    """An optimizer whose state is the new params themselves, one tensor in two places."""
    return lf.Optimizer("keeping_new()", copied, lambda p, dp, last: (descended(p, dp),) * 2)


@each_way
@pytest.mark.parametrize("make", [keeping_last, keeping_views, swapping, keeping_new])
def test_an_old_value_that_the_new_state_holds_is_the_old_one(make, way, request):
    if make in (keeping_last, keeping_new):
        request.getfixturevalue("uncompiled")
    assert_steps_are_those_of_a_copy(way, NET, make())


@each_way
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_a_weight_that_advance_keeps_is_that_of_before(way, optimizer):
    assert_steps_are_those_of_a_copy(way, lf.serial(remembering(), lf.dense(3)), optimizer)


def sharing(share):
    """Make two weights and a bias, of which some are one tensor, or lie in one."""
    flat = lf.keys.normal(lf.Key(7), (30,))
    weight, bias = flat[:25].view(5, 5), flat[25:]
    return {
        "a tensor": (weight, weight, bias.clone()),
        "a storage": (weight.clone(), weight, bias),
        "memory": (weight, flat[5:].view(5, 5), bias.clone()),
    }[share]


@each_way
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("share", ["a tensor", "a storage", "memory"])
def test_parameters_that_share_memory_part_at_the_first_step(way, optimizer, share):
    first = lf.init_state(NET, optimizer, lf.Key(2), X)
    (a, tanh, b, last), (weight, other, bias) = first.params, sharing(share)
    params = lf.evolve(a, weight=weight), tanh, lf.evolve(b, weight=other, bias=bias), last
    assert_steps_are_those_of_a_copy(way, NET, optimizer, lf.evolve(first, params=params))


@lf.record
class Before:
    """The params of the step before."""

    params: object


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_params_that_a_gradient_keeps_are_those_of_before(optimizer):
    def compute(net, params, cache, g, state, key):
        return net.grads(params, cache, g), Before(params)

    gradient = lf.Gradient("keeping()", compute, lambda net, params: Before(params))
    assert_steps_are_those_of_a_copy("eager", NET, optimizer, gradient=gradient)


@pytest.mark.parametrize("way", BOTH_WAYS, indirect=True)
def test_a_tensor_changed_in_place_between_calls_spoils_no_later_one(way):
    step, first = begin(lf.dense(5), X, donate=way == "donated")
    compiled, pure = lf.compile(step), lf.make_step(step.net, CE, step.optimizer)

    def double(weight):
        weight.data = weight.data + 1

    def leave(weight):
        pass

    for change in (leave, torch.Tensor.t_, leave, double, leave):
        state, _ = compiled(copied(first), BATCH)
        change(state.params.weight)
        assert_same_steps(compiled, pure, state, BATCH)


@compiles_in_full
def test_first_calls_of_two_threads_at_once():
    step, state = begin(NET, X)
    start = threading.Barrier(2)

    def run(rows):
        compiled = lf.compile(step)
        start.wait()
        return compiled(state, (X[:rows], T[:rows]))

    with ThreadPoolExecutor(2) as threads:
        given, other = threads.map(run, (6, 5))
    assert same_number(given, step(state, BATCH))
    assert other is not None


NARROW = {
    "1 by 1": (lf.serial(lf.conv2d(4, 1), lf.relu(), lf.flatten(), lf.dense(3)), (6, 2, 5, 4)),
    "one channel": (lf.serial(lf.conv2d(4, 3), lf.relu(), lf.flatten(), lf.dense(3)), (6, 1, 5, 4)),
    "one filter": (lf.serial(lf.conv2d(1, 3), lf.relu(), lf.flatten(), lf.dense(3)), (6, 2, 5, 4)),
    "one row": (lf.serial(lf.conv1d(3, 1), lf.tanh(), lf.flatten(), lf.dense(3)), (6, 1, 5)),
}


@compiles_in_full
@pytest.mark.parametrize(
    ("name", "donate"), [*zip(NARROW, (False, True, False, True), strict=True)]
)
def test_one_kind_of_batch_is_compiled_once(name, donate):
    net, shape = NARROW[name]
    x = lf.keys.normal(lf.Key(3), shape)
    step, state = begin(net, x, CE, OPTIMIZERS[1], donate=donate)
    compiled = lf.compile(step)
    taken(compiled, state, *[(x, T)] * 3)
    assert len(compiled.run.graphs.kinds) == 1
