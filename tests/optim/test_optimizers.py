"""Every optimizer in every configuration takes torch.optim's steps, and is pure."""

import inspect
from functools import partial
from itertools import product

import attrs
import pytest
import torch
from helpers import begin, largest, names_of, same_bits, same_number
from helpers.optimizers import RICH, SCHEDULED, TABLE, T, gradient, matrices, parameters, steps_of
from helpers.refusals import refusals
from torch.fx.experimental.proxy_tensor import make_fx

import lincoln_fn as lf
from lincoln_fn.optim import adamw, by_path, lion, muon, rmsprop, sgd
from lincoln_fn.testing.contract import check_same, check_untouched, snapshot

IDS = [
    f"{ours.__name__}-{'-'.join(options) or 'defaults'}-{i}"
    for i, (ours, _, options) in enumerate(TABLE)
]


def torch_steps_of(make, params, steps, schedule=None):
    leaves = [leaf.clone().requires_grad_() for leaf in lf.tree.leaves(params)]
    # Let torch keep what it counts (NAdam's product, ASGD's rates) as exactly as we do.
    torch.set_default_dtype(leaves[0].dtype)
    try:
        optimizer = make(leaves)
        scheduler = schedule and schedule(optimizer)
        for t in range(steps):
            for leaf in leaves:
                leaf.grad = gradient(leaf.detach(), t)
            optimizer.step()
            if scheduler:
                scheduler.step()
    finally:
        torch.set_default_dtype(torch.float32)
    return [leaf.detach() for leaf in leaves], optimizer


def sizes_on_the_way(params, expected):
    """Some steps lead to 0, and those that maximise lead far away."""
    return [max(map(largest, pair)) for pair in zip(lf.tree.leaves(params), expected, strict=True)]


@pytest.mark.full(but=("float64",))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("ours", "theirs", "options"), TABLE, ids=IDS)
def test_takes_torchs_steps(ours, theirs, options, dtype):
    params = parameters(dtype)
    moved, _ = steps_of(ours(**options), params, 100)
    expected, _ = torch_steps_of(partial(theirs, foreach=False, **options), params, 100)
    assert same_number(lf.tree.leaves(moved), expected, terms=sizes_on_the_way(params, expected))
    assert moved[2].bias is None
    assert moved[2].state is params[2].state


def test_plain_sgd_keeps_no_state():
    moved, state = sgd(1).update(torch.ones(3), torch.ones(3), ())
    assert (moved.tolist(), state, sgd().init(moved)) == ([0.0] * 3, (), ())


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_centered_rmsprop_is_finite_where_the_gradient_stays(momentum):
    p, grads = torch.zeros(64), torch.linspace(0.1, 3, 64)
    optimizer = rmsprop(0.01, alpha=0.5, centered=True, momentum=momentum)
    state, negative = optimizer.init(p), False
    for _ in range(30):
        p, state = optimizer.update(p, grads, state)
        negative = negative or bool((state.square - state.mean**2 < 0).any())
    assert negative  # the variance of a number that stays is rounding
    assert p.isfinite().all()


@pytest.mark.parametrize("optimizer", [*RICH, muon(0.1)], ids=str)
def test_a_weight_by_columns_moves_as_one_by_rows_and_stays_so(optimizer):
    by_rows = [lf.keys.normal(lf.Key(0), (5, 3), dtype=torch.float64)]
    by_columns = [by_rows[0].mT.contiguous().mT]
    moved, state = steps_of(optimizer, by_columns, 5)
    expected, _ = steps_of(optimizer, by_rows, 5)
    # muon makes 15 products in bfloat16 for a direction, and moves by 0.1 of it, five times.
    error = 5 * 0.1 * 15 * torch.finfo(torch.bfloat16).eps if "muon" in optimizer.name else 0.0
    assert same_number(moved, expected, error=error)
    alike = [leaf for leaf in lf.tree.leaves(state, states=True) if leaf.shape == (5, 3)]
    assert {leaf.stride() for leaf in [*moved, *alike]} == {(1, 5)}


def test_the_table_lists_every_optimizer():
    listed = {ours.__name__ for ours, _, _ in TABLE}
    listed |= {"lion", "muon", "lamb", "shampoo", "soap", "by_path", "chain", "sharded"}
    listed |= {"adabelief", "adan", "lars", "prodigy"}  # test_further_optimizers.py
    functions = filter(inspect.isfunction, map(partial(getattr, lf.optim), lf.optim.__all__))
    made = {f.__name__ for f in functions if f.__annotations__["return"] == "Optimizer"}
    assert listed == made


def test_defaults_are_torchs():
    for ours, theirs, _ in TABLE:
        of_torch = inspect.signature(theirs).parameters
        for name, parameter in inspect.signature(ours).parameters.items():
            assert parameter.default == of_torch[name].default, (ours, name)
    own = {"dtype"}  # of the passes, which torch always runs in bfloat16
    for name, parameter in inspect.signature(muon).parameters.items():
        of_torch = inspect.signature(T.Muon).parameters
        assert name in own or parameter.default == of_torch[name].default, name


@pytest.mark.full(but=("{}-torch.float32", "'original'"))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("options", [
    {},
    {"nesterov": False, "momentum": 0.8, "weight_decay": 0.0},
    {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 3},
    {"adjust_lr_fn": "original", "ns_coefficients": (2.0, -1.5, 0.5), "eps": 1e-3},
], ids=str)  # fmt: skip
def test_muon_takes_torchs_steps(options, dtype):
    params = matrices(dtype)
    moved, _ = steps_of(muon(0.02, **options), params, 100)
    # torch's linear layers hold the transposed weight, of shape (n_out, n_in).
    expected, _ = torch_steps_of(partial(T.Muon, lr=0.02, **options), [p.mT for p in params], 100)
    assert same_number([p.mT for p in moved], expected)


@pytest.mark.parametrize("maximize", [False, True])
def test_lion_is_algorithm_2_of_its_paper(maximize):
    lr, (b1, b2), decay = 0.01, (0.8, 0.95), 0.2
    params = parameters(torch.float64)
    optimizer = lion(lr, (b1, b2), decay, maximize=maximize)
    moved, _ = steps_of(optimizer, params, 100)
    expected = []
    for p in lf.tree.leaves(params):
        m = torch.zeros_like(p)
        for t in range(100):
            g = -gradient(p, t) if maximize else gradient(p, t)
            update = torch.sign(b1 * m + (1 - b1) * g)
            m = b2 * m + (1 - b2) * g
            p = p - lr * (update + decay * p)
        expected.append(p)
    assert same_number(lf.tree.leaves(moved), expected)


def test_asgd_keeps_torchs_average():
    params = parameters(torch.float64)
    _, state = steps_of(lf.optim.asgd(0.05, t0=5.0), params, 50)
    _, reference = torch_steps_of(partial(T.ASGD, lr=0.05, t0=5.0), params, 50)
    averages = [kept["ax"] for kept in reference.state.values()]
    assert same_number(lf.tree.leaves(state.average), averages)


@pytest.mark.parametrize(("ours", "theirs", "options"), SCHEDULED)
def test_a_schedule_is_the_learning_rate_of_each_step(ours, theirs, options):
    params = parameters(torch.float64)
    moved, state = steps_of(ours(lf.schedules.cosine(0.05, 40), **options), params, 30)
    expected, _ = torch_steps_of(
        partial(theirs, lr=0.05, foreach=False, **options), params, 30,
        partial(T.lr_scheduler.CosineAnnealingLR, T_max=40),
    )  # fmt: skip
    assert same_number(lf.tree.leaves(moved), expected)
    assert state.step.dtype is torch.int64
    assert state.step == 30


@pytest.mark.parametrize("make", [lf.optim.lion, lf.optim.muon, lf.optim.asgd])
def test_a_constant_schedule_is_a_number(make):
    params = matrices(torch.float64)
    moved, state = steps_of(make(lf.schedules.constant(0.05)), params, 20)
    expected, _ = steps_of(make(0.05), params, 20)
    assert same_number(moved, expected)
    assert state.step == 20


def test_a_leaf_without_axes_keeps_its_dtype_under_a_schedule():
    makes = {ours for ours, _, _ in SCHEDULED} | {lf.optim.lion}
    for dtype, make in product((torch.float32, torch.bfloat16), makes):
        moved, state = steps_of(make(lambda step: 0.1 / (step + 1).double()), parameters(dtype), 2)
        kept = [leaf for leaf in lf.tree.leaves(state) if leaf.ndim]
        assert {leaf.dtype for leaf in lf.tree.leaves(moved) + kept} == {dtype}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("optimizer", [*RICH, sgd()], ids=str)
def test_is_pure(optimizer, scale):
    params, grads = parameters(torch.float64, scale), parameters(torch.float64, 1 / scale, 1)
    _, state = optimizer.update(params, grads, optimizer.init(params))
    before = snapshot(params=params, grads=grads, state=state)
    first = optimizer.update(params, grads, state)
    check_untouched(optimizer.name, "update", before)
    check_same(optimizer.name, "a second update", optimizer.update(params, grads, state), first)
    assert lf.tree.same_structure(first, (params, state), states=True)
    assert all(torch.isfinite(leaf).all() for leaf in lf.tree.leaves(first))
    # No tensor stands in two places: a tracer would take the two for one.
    everything = lf.tree.leaves((params, state), states=True)
    assert len({id(leaf) for leaf in everything}) == len(everything)
    given = {leaf.data_ptr() for leaf in lf.tree.leaves((params, grads, state))}
    assert not given & {leaf.data_ptr() for leaf in lf.tree.leaves(first)}


@pytest.mark.full(but=("[adamw", "[rprop", "[soap", "[chain(clip"))
@pytest.mark.parametrize("optimizer", RICH, ids=str)
def test_state_is_tensors_that_trace(optimizer):
    """A traced update, run on, takes the steps of the update itself: no number was baked in."""
    params, grads = parameters(torch.float64), parameters(torch.float64, seed=1)
    state = optimizer.init(params)
    if len(lf.tree.leaves(state)):
        assert all(isinstance(leaf, torch.Tensor) for leaf in lf.tree.leaves(state))
    leaves, rebuild = torch.utils._pytree.tree_flatten((params, grads, state))

    def flat(*leaves):
        tree = torch.utils._pytree.tree_unflatten(leaves, rebuild)
        return torch.utils._pytree.tree_leaves(optimizer.update(*tree))

    traced = make_fx(flat, tracing_mode="fake")(*leaves)
    for _ in range(7):
        leaves = torch.utils._pytree.tree_leaves((params, grads, state))
        params, state = optimizer.update(params, grads, state)
        expected = torch.utils._pytree.tree_leaves((params, state))
        assert same_number(traced(*leaves), expected)


@pytest.mark.parametrize("optimizer", [o for o in RICH if "clip" not in o.name], ids=str)
def test_an_ensemble_is_updated_by_vmap(optimizer):
    params, grads = parameters(torch.float64), parameters(torch.float64, seed=1)
    state = optimizer.init(params)
    expected, _ = optimizer.update(params, grads, state)

    trees = (params, grads, state)

    def update(leaves):
        values = iter(leaves)
        moved, _ = optimizer.update(*lf.tree.map(lambda leaf: next(values), trees))
        return lf.tree.leaves(moved)

    moved = torch.func.vmap(update)([torch.stack([leaf, -leaf]) for leaf in lf.tree.leaves(trees)])
    assert same_number([leaf[0] for leaf in moved], lf.tree.leaves(expected))


def test_adam_reads_a_gradient_of_another_layout():
    p = lf.keys.normal(lf.Key(0), (3, 5))
    g = lf.keys.normal(lf.Key(1), (5, 3)).mT
    for optimizer in RICH[:-2]:
        given, _ = optimizer.update(p, g, optimizer.init(p))
        expected, _ = optimizer.update(p, g.contiguous(), optimizer.init(p))
        assert same_number([given], [expected])


def test_parameters_without_leaves():
    for optimizer in RICH:
        state = optimizer.init(((), {}))
        assert optimizer.update(((), {}), ((), {}), state)[0] == ((), {})


@pytest.mark.parametrize("optimizer", RICH[:12], ids=str)
def test_what_does_not_mirror_the_parameters_is_named(optimizer):
    params, init = parameters(torch.float32), optimizer.init
    other, bias = attrs.evolve(params[0], weight=torch.zeros(3)), params[0]
    shape = "of its parameter's shape (3, 4) at 0.weight, got (3,)"
    for grads, state, told in (
        ((other, *params[1:]), init(params), f"a gradient {shape}"),
        (params[:3], init(params), "gradients of the parameters' structure; "),
        (params, init(bias), "a state with trees of 4 tensors, one a parameter, got 2"),
        (params, init((other, *params[1:])), f"a state {shape}"),
    ):
        with pytest.raises(lf.LayerError) as error:
            optimizer.update(params, grads, state)
        assert str(error.value).startswith(f"{optimizer.name.partition('(')[0]}: expected {told}")


def test_names_are_code():
    assert repr(sgd(0.003)) == "sgd(0.003)"
    assert repr(sgd(lf.schedules.cosine(0.1, 10), 0.9)) == "sgd(cosine(0.1, 10), momentum=0.9)"
    for optimizer in [*RICH, muon(0.02, nesterov=False), adamw(weight_decay=0.0)]:
        assert repr(eval(repr(optimizer), names_of(lf.optim))) == repr(optimizer)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        sgd().name = "adam"


def test_a_users_optimizer_is_one_too():
    def update(params, grads, state):
        return lf.tree.map(lambda p, dp: p - dp.sign(), params, grads), state + 1

    optimizer = lf.Optimizer("sign()", init=lambda params: torch.tensor(0), update=update)
    x, target = lf.keys.normal(lf.Key(0), (5, 3)), torch.tensor([0, 1, 2, 1, 0])
    net = lf.serial(lf.dense(4), lf.log_softmax())
    step, state = begin(net, x, lf.losses.nll(), optimizer)
    new, _ = step(state, (x, target))
    assert type(new.params[0]) is type(state.params[0])
    moved = (new.params[0].weight - state.params[0].weight).abs()
    assert same_number(moved, torch.ones(3, 4))
    assert new.opt_state == 1


def test_by_path_gives_each_leaf_to_the_first_match():
    params = parameters(torch.float64)
    first, second, third = sgd(0.1, momentum=0.9), adamw(0.02), rmsprop(0.03)
    optimizer = by_path({"*.bias": first, lambda path: path.startswith("0."): second, "*": third})
    moved, state = steps_of(optimizer, params, 10)
    paths, before = lf.tree.paths(params), lf.tree.leaves(params)
    assert paths == ["0.weight", "0.bias", "2.weight", "3.gain"]
    each = zip((second, first, third, third), before, strict=True)
    assert same_bits(lf.tree.leaves(moved), [steps_of(one, leaf, 10)[0] for one, leaf in each])
    assert moved[2].state is params[2].state
    assert lf.tree.paths(state[0].momentum) == ["0.bias"]


TWO, NAMED = (torch.ones(2), torch.ones(2)), {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
test_what_does_not_fit_is_refused = refusals("""
sgd().update(TWO[0], 3.0, ()) -> ^sgd: expected a gradient of its parameter's shape (2,), got float$
muon().init(parameters(torch.float32)) -> ^muon: expected matrices, got 0.bias of shape (4,); give
    it to another optimizer by by_path$
# Where nothing is trained, too.
optim.adam().update((), (), ()) -> ^adam: expected state AdamState, got (); init(params) makes one$
optim.nadam().update((), (), ()) -> ^nadam: expected state NadamState, got (); init(params) makes
    one$
optim.adagrad().update((), (), ()) -> ^adagrad: expected state AdagradState, got (); init(params)
    makes one$
by_path({'0.*': sgd(), '2.*': adamw()}).init(parameters(torch.float32)) -> ^by_path: expected a
    pattern that matches '3.gain', got '0.*', '2.*'$
by_path({'bais': sgd(), '*': sgd()}).init(NAMED) -> ^by_path: expected patterns that fit a path, got
    'bais'; there are 'bias', 'weight'; a function of the path may fit none$
by_path({'*': sgd()}).update(TWO, (TWO[0], None), ((),)) -> ^by_path: expected a gradient of its
    parameter's shape (2,) at 1, got NoneType$
# The rest of the error is optree's.
by_path({'*': sgd()}).update(TWO, TWO[:1], ((),)) -> by_path: expected gradients of the parameters'
    structure; tuple arity mismatch; expected: 2, got
by_path({'*': sgd()}).update(TWO, list(TWO), ((),)) -> by_path: expected gradients of the
    parameters' structure; Expected an instance of tuple, got
""")


def test_a_function_of_the_path_may_fit_none():
    assert by_path({lambda path: False: sgd(), "*": sgd()}).init(NAMED) == ((), ())
