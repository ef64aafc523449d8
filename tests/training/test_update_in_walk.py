"""A step that updates params as the walk goes back: `make_step(..., update="walk")`."""

import re
import weakref

import pytest
import torch
from helpers import CASES, CE, MSE, SGD, assert_says, begin, normal, same_bits, same_number, taken
from helpers.compiling import T, X
from helpers.optimizers import RICH, TABLE
from torch.utils._python_dispatch import TorchDispatchMode

import lincoln_fn as lf
from lincoln_fn.core import Outer
from lincoln_fn.optim.pieces import split_clip
from lincoln_fn.training.update_in_walk import Use, _norm_of_sum, _uses

TOKENS = torch.tensor([[1, 2, 3, 1, 7], [4, 4, 0, 2, 1]])
SEQUENCE = lf.keys.normal(lf.Key(0), (6, 5, 2))
BODY = lf.serial(lf.transformer_encoder_block(2), lf.residual(lf.dense(8)), lf.layer_norm(8))
NETS = {
    "frozen": (
        lf.serial(
            lf.dense(4), lf.batch_norm(), lf.frozen(lf.dense(7)), lf.dropout(0.2),
            lf.residual(lf.dense(7)), lf.dense(3, bias=False),
        ), X, T,
    ),
    "tied": (lf.serial(lf.tied(lf.embedding(9, 8), BODY), lf.permute(0, 2, 1)), TOKENS, TOKENS),
    "frozen embedding": (
        lf.serial(lf.tied(lf.frozen(lf.embedding(9, 8)), BODY), lf.permute(0, 2, 1)),
        TOKENS, TOKENS,
    ),
    "repeated": (
        lf.serial(lf.scan(lf.gru_cell(4)), lf.lstm(3), lf.flatten(), lf.dense(3)),
        SEQUENCE, T,
    ),
    "in bfloat16": (
        lf.in_dtype(lf.serial(lf.dense(4), lf.tanh(), lf.dense(3)), torch.bfloat16), X, T,
    ),
    "one layer": (lf.dense(3), X, T),
    "nothing trained": (lf.frozen(lf.dense(3)), X, T),
}  # fmt: skip
CLIP = lf.optim.clip_by_global_norm(0.1)
ALL = [pytest.param(ours(**options), marks=pytest.mark.full) for ours, _, options in TABLE]
BY_BITS = [
    optimizer for optimizer in RICH if not re.search("global_norm|sam|prodigy", str(optimizer))
]


def trained(name, optimizer, steps=3, **options):
    """Train a network; give the last state and loss."""
    net, x, target = NETS[name]
    return taken(*begin(net, x, CE, optimizer, key=1, **options), *[(x, target)] * steps)


def check_same_step(net, x, target, optimizer, loss=CE, *, steps=2, error=None, **options):
    """Check steps that update a state in place against the ordinary ones: bits, or numbers."""
    options = {"donate": True, "record": False, **options}
    ends, batches = [], [(x, target)] * steps
    for update in ("walk", "after"):
        begun = begin(net, x, loss, optimizer, key=1, update=update, **options)
        ends.append(taken(*begun, *batches))
    assert same_bits(*ends) if error is None else same_number(*ends, error=error)


@pytest.mark.parametrize("optimizer", [*BY_BITS, *ALL], ids=str)
def test_each_optimizer_takes_the_same_step(optimizer):
    for name in ("frozen", "tied"):
        given = trained(name, optimizer, update="walk", record=False)
        assert same_bits(given, trained(name, optimizer, record=False))


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_each_network_takes_the_same_step(name, record, donate):
    optimizer, options = lf.optim.adamw(0.01), {"record": record, "donate": donate}
    given = trained(name, optimizer, steps=5, update="walk", **options)
    assert same_bits(given, trained(name, optimizer, steps=5, **options))


@pytest.mark.parametrize("name", [name for name in NETS if name != "nothing trained"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_clip_by_the_global_norm_is_exact(name, dtype):
    net, x, target = NETS[name]
    x = x.to(dtype) if x.is_floating_point() else x
    optimizer = lf.optim.chain(CLIP, lf.optim.ema(0.9), lf.optim.sgd(1.0))
    error = 0.01 if name == "in bfloat16" else 0.0
    options = {"donate": False, "record": True, "steps": 3, "error": error}
    check_same_step(net, x, target, optimizer, **options)


def test_sums_of_several_visits_are_clipped_once():
    tokens = TOKENS.repeat(4, 1)
    nets = [lf.tied(lf.embedding(50, 8), lf.residual(lf.dense(8))) for _ in range(2)]
    net = lf.serial(lf.branch(*nets, merge=lf.add()), lf.permute(0, 2, 1))
    optimizer = lf.optim.chain(CLIP, lf.optim.sgd(1.0))
    check_same_step(net, tokens, tokens, optimizer, error=0.0)


def test_the_norm_of_gradients_in_half_precision_is_computed_in_float32():
    rows = torch.full((1, 2, 64), 1e-3, dtype=torch.float16)  # whose squares' squares are 0
    norm = _norm_of_sum(Outer(rows, rows))
    assert same_number(norm, (rows[0].float().mT @ rows[0].float()).norm())


@pytest.mark.full
@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_layer_takes_the_same_step(case):
    params = case.params()
    y, _ = case.layer.forward(params, case.x)
    if lf.tree.leaves(params) and isinstance(y, torch.Tensor):
        given = case.layer, case.x, normal(*y.shape, seed=1)
        check_same_step(*given, SGD, MSE)
        clipped = lf.optim.chain(lf.optim.clip_by_global_norm(0.01), SGD)
        check_same_step(*given, clipped, MSE, error=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_embedding_s_gradient_is_cast_before_it_is_added(dtype):
    tokens = TOKENS.repeat(4, 1) % 3
    embedding = lf.in_dtype(lf.embedding(50, 8), dtype)
    net = lf.serial(lf.tied(embedding, lf.residual(lf.dense(8))), lf.permute(0, 2, 1))
    check_same_step(net, tokens, tokens, lf.optim.sgd(1.0))


def test_an_x_without_examples_has_a_norm():
    net = lf.serial(lf.positional_embedding(40), lf.dense(3))
    check_same_step(net, X, T, lf.optim.chain(CLIP, lf.optim.sgd(1.0)), error=0.0)


@pytest.mark.full
def test_accumulated_gradients_are_those_of_the_ordinary_step():
    for optimizer in (
        lf.optim.chain(lf.optim.accumulate(2), lf.optim.adamw(0.1)),
        lf.optim.chain(CLIP, lf.optim.accumulate(2), lf.optim.sgd(1.0)),
    ):
        given = trained("tied", optimizer, steps=4, update="walk")
        assert same_number(given, trained("tied", optimizer, steps=4))


@pytest.mark.full
def test_a_recorded_step_stays_recorded(logged):
    for optimizer in (lf.optim.adamw(), lf.optim.chain(CLIP, lf.optim.adamw())):
        trained("tied", optimizer, steps=5, update="walk", donate=True)
    assert not any("stays with Python" in message for message in logged)


class Largest(TorchDispatchMode):
    """Notes the most numbers at once of tensors made in the shape of a matrix of a network."""

    def __init__(self, shapes):
        super().__init__()
        self.shapes, self.alive, self.most = shapes, {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        is_new = not any(result.alias_info for result in func._schema.returns)
        if is_new and isinstance(made, torch.Tensor) and tuple(made.shape) in self.shapes:
            storage = made.untyped_storage()
            self.alive[id(storage)] = weakref.ref(storage), made.numel()
        self.alive = {key: seen for key, seen in self.alive.items() if seen[0]() is not None}
        self.most = max(self.most, sum(count for _, count in self.alive.values()))
        return made


@pytest.mark.parametrize("update", ["after", "walk"])
def test_the_gradients_of_one_layer_are_alive_at_once(update):
    sizes = (31, 37, 41, 43)
    net = lf.serial(*map(lf.dense, sizes))
    step, state = begin(net, X, donate=True, update=update, record=False)
    weights = [layer.weight for layer in state.params]
    with Largest({tuple(w.shape) for w in weights}) as seen:
        step(state, (X, T))
    numbers = [a * b for a, b in zip((5, *sizes), sizes, strict=False)]
    assert seen.most == (sum(numbers) if update == "after" else max(numbers))


def test_the_norm_of_a_sum_is_that_of_products_of_rows_where_these_cost_less():
    x, g = lf.keys.normal(lf.Key(0), (2, 3, 40)), lf.keys.normal(lf.Key(1), (2, 3, 30))
    norm = _norm_of_sum(Outer(x, g))
    assert same_number(norm, torch.einsum("nti,nto->io", x, g).norm())
    many = [rows.expand(2, 3, -1).repeat(1, 10, 1) for rows in (x, g)]
    assert _norm_of_sum(Outer(*many)) is None


def visits_of(net, x):
    params, whole = net.init(lf.Key(0), x), set()
    uses = lf.tree.leaves(_uses(net, "", params, whole))
    names = lf.tree.paths(params)
    return {
        name: [path for path, _ in use.visits] if isinstance(use, Use) else use
        for name, use in zip(names, uses, strict=True)
    }


def test_a_parameter_has_the_visits_that_its_gradient_is_the_sum_of():
    net, x, _ = NETS["tied"]
    visits = visits_of(net, x)
    assert visits["0.0.weight"] == ["0.0", "0.2"]
    assert visits["0.1.2.weight"] == ["0.1.2"]
    several = [name for name, at in visits.items() if isinstance(at, list) and len(at) > 1]
    assert several == ["0.0.weight"]
    shared = lf.serial(lf.shared(lf.serial(lf.dense(2), lf.dense(3))), lf.add())
    assert {*map(tuple, visits_of(shared, (X, X)).values())} == {("0",)}
    cast = NETS["in bfloat16"][0]
    assert visits_of(cast, X)["2.bias"] == ["0.2"]


def test_the_key_s_bias_has_no_gradient_of_its_own():
    x = torch.zeros(2, 3, 8)
    visits = visits_of(lf.multi_head_attention(2), x)
    assert same_bits(visits["key.bias"], torch.zeros(8))
    assert visits["key.weight"] == ["1"]


LOOPS = lf.serial().composition


REFUSED = [
    (lf.optim.sharded(lf.optim.adamw(), lf.distributed.alone()), "got sharded ... leave out up"),
    (lf.optim.Optimizer("own()", lambda p: (), lambda p, g, s: (p, s)), "got own() ... leave out"),
    (lf.optim.chain(lf.optim.accumulate(2), CLIP, lf.optim.sgd()), "clip_by ... put it first"),
    (lf.optim.by_path({"*": lf.optim.chain(CLIP, lf.optim.sgd())}), "clip_by ... put it first"),
    (lf.optim.chain(lf.optim.Transform("own()", lambda inner: inner), lf.optim.sgd()), "got own"),
]


@pytest.mark.parametrize(("optimizer", "message"), REFUSED, ids=str)
def test_an_optimizer_that_needs_all_gradients_is_refused(optimizer, message):
    assert_says(message, lf.make_step, lf.dense(3), CE, optimizer, update="walk")


def test_a_gradient_of_another_kind_is_refused():
    given = {"gradient": lf.per_example.clipped(1.0), "update": "walk"}
    message = 'update="walk" alone, got clipped(1.0)'
    assert_says(message, lf.make_step, lf.dense(3), CE, SGD, **given)


def test_a_second_visit_is_refused():
    def back(visit, params, cache, g):
        visit(0, params[0], cache[0], g)
        return LOOPS.back(visit, params, cache, g)

    net = lf.walk.composition("twice", (lf.dense(3),), LOOPS.there, back)
    message = "^twice[0] dense(3): ... got another; leave out"
    assert_says(message, *begin(net, X, update="walk"), (X, T))


def test_a_visit_that_does_not_come_is_refused():
    def back(visit, params, cache, g):
        return g, (lf.tree.map(torch.zeros_like, params[0]),)

    composition = lf.evolve(lf.serial(lf.dense(3)).composition, back=back)
    net = composition.rebuild(composition.parts)
    message = "visit of part 0 ... got none; leave out"
    assert_says(message, *begin(net, X, update="walk"), (X, T))


def test_a_state_of_another_optimizer_is_refused_before_the_walk():
    net = lf.serial(lf.dense(3))
    step = lf.make_step(net, CE, lf.optim.adam(), update="walk")
    assert_says("^adam: expected state AdamState", step, begin(net, X)[1], (X, T))


def test_two_parameters_that_are_one_tensor_are_updated_each_by_its_own_gradient():
    # The walk back comes to the experts in their order: the second one's dx reads the tensor after
    # the first one's update.
    net = lf.serial(lf.dense(4), lf.mixture_of_experts(lf.dense(2), (lf.dense(3),) * 2))
    states = []
    for update in ("after", "walk"):
        step, state = begin(net, X, update=update, donate=True, record=False)
        first, mixture = state.params
        params = first, lf.evolve(mixture, experts=mixture.experts[:1] * 2)
        states.append(step(lf.evolve(state, params=params), (X, T))[0])
    assert same_bits(*states)


@pytest.mark.full
def test_a_compiled_step_takes_the_same_step():
    net = lf.serial(lf.tied(lf.embedding(9, 8), lf.residual(lf.dense(8))), lf.permute(0, 2, 1))
    optimizer = lf.optim.chain(CLIP, lf.optim.adamw())
    step, state = begin(net, TOKENS, CE, optimizer, update="walk")
    assert same_number(*(take(state, (TOKENS, TOKENS)) for take in (lf.compile(step), step)))


def test_a_gather_that_looks_for_records_finds_some():
    def gather(visit, params, records):
        if records[0] is None:
            return lf.tree.map(torch.zeros_like, params)
        return (visit(0, params[0], records[0]),)

    net = lf.walk.composition("own", (lf.dense(3),), LOOPS.there, LOOPS.back, gather=gather)
    check_same_step(net, X, T, lf.optim.sgd(1.0))


def test_a_clip_is_taken_off_and_the_rest_kept():
    optimizer = lf.optim.chain(CLIP, lf.optim.ema(0.9), lf.optim.sgd(1.0))
    max_norm, rest = split_clip(optimizer)
    assert (max_norm, str(rest)) == (0.1, "chain(ema(0.9), sgd(1.0))")
