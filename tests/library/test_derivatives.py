"""What maps tensors to tensors has its derivative, or says that it has none: never 0, never nan.

The layers are in test_transforms_of_layers.py, the losses in test_transforms_of_losses.py.
"""

import attrs
import pytest
import torch
from helpers import assert_says, cast, normal, same_bits, same_number
from helpers.cases.case import random_like
from helpers.derivatives import (
    LOOSE,
    assert_differentiable,
    flat,
    inner,
    same_derivative,
    slopes,
)
from helpers.optimizers import EVERY
from torch.autograd import forward_ad
from torch.func import grad, jvp, vjp

import lincoln_fn as lf
from lincoln_fn import losses, optim
from lincoln_fn.core.record import evolve
from lincoln_fn.fastpath.optimizers import fast_optimizer

# torch's own, at the first jvp of a process.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script")

X, T = normal(5, 6).double(), torch.arange(5) % 3
LOSS = losses.softmax_cross_entropy()
NET = lf.serial(lf.dense(4), lf.gelu(), lf.batch_norm(), lf.dense(3))
# An eps at which the update is smooth around a gradient of 0, so that differences see its slope.
ADAM = optim.adam(0.1, eps=0.1)


def params_of(net, x):
    return cast(net.init(lf.Key(0), x))


# Steps. Each is a function of the whole state and x.


def step_and_state(kind, net=NET, optimizer=ADAM, x=X, **options):
    fast, donate = kind != "formula", kind.endswith("donate")
    step = lf.make_step(net, LOSS, optimizer, fast=fast, donate=donate, **options)
    gradient = options.get("gradient")
    state = lf.init_state(net, optimizer, lf.Key(0), x, gradient=gradient)
    return lf.compile(step) if "compiled" in kind else step, cast(state)


@pytest.mark.full(but=("formula-adam", "fast-adam"))
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("optimizer", [ADAM, optim.sgd(0.1, momentum=0.9)], ids=str)
@pytest.mark.parametrize("kind", ["formula", "fast", "compiled"])
def test_a_step_has_its_derivative_in_state_and_batch(kind, optimizer):
    step, state = step_and_state(kind, optimizer=optimizer)
    # The mean square of Adam is not below 0, which a difference might be.
    p = state.params
    assert_differentiable(lambda p, x: step(evolve(state, params=p), (x, T)), p, X)


@pytest.mark.parametrize("fast", [False, True], ids=["formula", "fast"])
def test_a_step_has_its_derivative_in_the_last_layer_alone(fast):
    """The other layers' forward sees plain tensors, and their backward a g that is followed."""
    net = lf.serial(lf.gelu(), lf.batch_norm(), lf.group_norm(2), lf.dense(3))
    step, state = step_and_state("fast" if fast else "formula", net, optim.sgd(0.1))

    def of_last(last):
        return step(evolve(state, params=(*state.params[:-1], last)), (X, T))

    assert_differentiable(of_last, state.params[-1])


@pytest.mark.full
@pytest.mark.usefixtures("uncompiled")
def test_a_graph_that_is_there_is_not_run_under_a_derivative():
    step, state = step_and_state("compiled", optimizer=optim.sgd(0.1))
    eager, _ = step_and_state("formula", optimizer=optim.sgd(0.1))
    for _ in range(3):
        state, _ = step(state, (X, T))
    # The state that the graph made last: for it the next graph is remembered.
    assert step.run.graphs.made
    v = random_like((X,), 3)[0]
    expected = jvp(lambda x: eager(state, (x, T))[1], (X,), (v,))[1]
    for transform in ("jvp", "grad", "autograd", "dual"):
        state, _ = step(state, (X, T))
        wanted = jvp(lambda x: eager(state, (x, T))[1], (X,), (v,))[1]  # noqa: B023
        given = along(transform, lambda x: step(state, (x, T))[1], X, v)  # noqa: B023
        assert same_number(given, wanted)
    assert not same_number(expected, wanted)


def along(transform, f, x, v):
    """Compute the derivative of one number along v."""
    if transform == "jvp":
        return jvp(f, (x,), (v,))[1]
    if transform == "grad":
        return (grad(f)(x) * v).sum()
    if transform == "dual":
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(f(forward_ad.make_dual(x, v))).tangent
    watched = x.clone().requires_grad_()
    return (torch.autograd.grad(f(watched), watched)[0] * v).sum()


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("transform", ["jvp", "grad", "autograd", "dual"])
@pytest.mark.parametrize("kind", ["donate", "compiled donate"])
def test_a_step_that_updates_its_state_in_place_says_so(kind, transform):
    step, state = step_and_state(kind, optimizer=optim.sgd(0.1, momentum=0.9))
    kept = lf.tree.map(torch.clone, state, states=True)
    (b,) = lf.tree.leaves(state.opt_state.momentum)[:1]

    def of_x(x):
        return step(state, (x, T))[1]

    def of_momentum(b):
        leaves = iter([b, *lf.tree.leaves(state.opt_state.momentum)[1:]])
        momentum = lf.tree.map(lambda _: next(leaves), state.opt_state.momentum)
        of_state = evolve(state, opt_state=evolve(state.opt_state, momentum=momentum))
        return step(of_state, (X, T))[0].params[0].weight.sum()

    for f, at in ((of_x, X), (of_momentum, b)):
        with pytest.raises(lf.LayerError, match=r"donate=True updates .*; use a step without"):
            along(transform, f, at, torch.ones_like(at))
    for before, after in zip(*(lf.tree.leaves(s, states=True) for s in (kept, state)), strict=True):
        assert same_bits(before, after)


def test_a_step_of_several_processes_says_so():
    step, state = step_and_state(
        "fast", lf.dense(3), reduce=lf.distributed.mean(lf.distributed.alone())
    )
    with pytest.raises(lf.LayerError, match=r"step: .*since it has reduce; use a step of one"):
        grad(lambda x: step(state, (x, T))[1])(X)
    group = lf.distributed.Group(0, (0, 1), handle=object())
    for send in (group.gather, group.sum_in_place, lambda x: group.exchange(x, (1, 1)),
                 lambda x: group.send(x, 1)):  # fmt: skip
        assert_says("Group: ... ; compute the derivative in one", jvp, send, (X[:2],), (X[:2],))


@pytest.mark.parametrize(
    "net",
    [lf.serial(lf.group_norm(2), lf.dense(3)), lf.serial(lf.lstm(3), lf.last_state(), lf.dense(3))],
    ids=str,
)
def test_a_step_with_a_gradient_of_its_own_has_its_derivative(net):
    x = normal(5, 4, 2) if "lstm" in net.name else normal(5, 6)
    gradient = lf.per_example.clipped(0.1)
    made = []
    for kind, dtype in (("formula", torch.float64), ("fast", torch.float32)):
        step, state = step_and_state(kind, net, optim.sgd(0.1), x, gradient=gradient)
        state, given = cast(state, dtype), x.to(dtype)
        f = flat(lambda x, step=step, state=state: step(state, (x, T)), given)[1]
        along, expected = jvp(f, (given,), (given,))[1], slopes(f, (given,), (given,))
        made.append(along)
        if dtype is torch.float64:
            assert same_derivative(along, expected, LOOSE)
    exact, fast = made
    assert same_derivative(fast, exact, 1e-4)


def test_fit_keeps_no_graph_of_all_its_steps():
    def trained(x):
        state, _ = lf.fit(
            lf.dense(3), LOSS, optim.sgd(0.1), (x, T), key=lf.Key(0), batch_size=5, progress=False
        )
        return state.params.weight.sum()

    for transform in ("grad", "jvp", "autograd"):
        with pytest.raises(lf.LayerError, match=r"fit: .*keep every step in memory; detach data"):
            along(transform, trained, X.float(), X.float())


def graph_of(state):
    """List the nodes of autograd's graph behind a state."""
    nodes = {leaf.grad_fn for leaf in lf.tree.leaves(state.params)} - {None}
    new = [*nodes]
    while new:
        before = {node for node, _ in new.pop().next_functions if node} - nodes
        nodes |= before
        new += before
    return nodes


def test_train_keeps_no_graph_of_all_its_steps():
    net, sgd = lf.dense(3), optim.sgd(0.1)
    state = lf.init_state(net, sgd, lf.Key(0), X.float())
    x = X.float().requires_grad_()
    step = lf.make_step(net, LOSS, sgd)
    with pytest.raises(lf.LayerError, match=r"train: .*keep every step in memory; detach data"):
        list(lf.train(step, state, [(x, T)] * 3))
    for state, _ in lf.train(step, state, [(x.detach(), T)] * 3):
        assert graph_of(state) == set()


def test_train_takes_a_step_that_differentiates_by_itself():
    @lf.record
    class Own:
        weight: torch.Tensor
        step: torch.Tensor

    def step(state, x):
        value = (state.weight * x).square().sum()
        (dp,) = torch.autograd.grad(value, state.weight)
        weight = (state.weight - 0.1 * dp).detach().requires_grad_()
        return Own(weight, state.step + 1), value

    begin = Own(torch.ones(3, requires_grad=True), torch.tensor(0))
    *_, (state, record) = lf.train(step, begin, [torch.ones(3)] * 4)
    assert same_number(state.weight, torch.full((3,), 0.8**4))
    assert record.step == 4


def test_a_step_warns_of_a_graph_that_grows():
    net, sgd = lf.dense(3), optim.sgd(0.1)
    state = lf.init_state(net, sgd, lf.Key(0), X.float())
    x, step = X.float().requires_grad_(), lf.make_step(net, LOSS, sgd)
    state, _ = step(state, (x, T))  # one step can be differentiated
    with pytest.warns(UserWarning, match=r"^step: x requires a gradient, .*detach x") as told:
        step(state, (x, T))
    assert [warning.filename for warning in told] == [__file__]
    step(state, (x.detach(), T))  # as a meta-learner's, by the parameters alone


# Optimizers and losses.


def zeros_like(tree):
    return lf.tree.map(torch.zeros_like, tree)


# An eps at which an update is smooth around a gradient of 0.
OPTIMIZERS = [
    *(make(0.1, eps=0.1) for make in (optim.adam, optim.adamw, optim.adamax, optim.nadam)),
    optim.adam(0.1, eps=0.1, amsgrad=True),
    *(make(0.1, eps=0.1) for make in (optim.radam, optim.rmsprop, optim.adagrad, optim.adadelta)),
    optim.rmsprop(0.1, eps=0.1, centered=True, momentum=0.5),
    optim.adagrad(0.1, eps=0.1, initial_accumulator_value=0.5, lr_decay=0.1),
    optim.sgd(lf.schedules.cosine(0.1, 9), momentum=0.9, nesterov=True),
    optim.chain(optim.clip_by_global_norm(1.0), optim.weight_decay(0.1), ADAM),
    optim.chain(optim.clip_by_value(0.5), optim.accumulate(2), optim.ema(0.9), ADAM),
    optim.by_path({"a": optim.rmsprop(0.1, eps=0.1), "*": ADAM}),
]


@pytest.mark.parametrize("at", ["zero", "partly zero", "later"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_an_update_has_its_derivative_where_the_mean_square_is_0_too(optimizer, at):
    params = {"a": normal(3, 4).double(), "b": normal(4, seed=1).double()}
    grads = lf.tree.map(lambda p: (p * 1.7).cos(), params)
    state = optimizer.init(params)
    if at == "later":
        for _ in range(6):  # RAdam scales from the sixth step on
            params, state = optimizer.update(params, grads, state)
    elif at == "zero":
        grads = zeros_like(grads)
    else:
        grads = {**grads, "a": grads["a"].index_fill(0, torch.tensor([1]), 0)}

    for made in (optimizer, fast_optimizer(optimizer)):
        xs, update = flat(lambda p, g, made=made: made.update(p, g, state), params, grads)
        along = random_like(xs, 70)
        # With a kink at 0, in both directions the same: the difference is of the step's size.
        expected = slopes(update, xs, along)
        given, u = jvp(update, xs, along)[1], random_like(expected, 130)
        assert same_derivative(given, expected, 1e-4)
        pulled, terms = vjp(update, *xs)[1](u), inner(map(torch.abs, u), map(torch.abs, given))
        assert same_number(inner(pulled, along), inner(u, given), terms=terms)


@pytest.mark.parametrize("optimizer", EVERY, ids=[f"{i}-{o}" for i, o in enumerate(EVERY)])
def test_an_update_has_the_same_bits_under_a_derivative(optimizer):
    params = {"a": normal(5, 3), "b": normal(3, 4, seed=1)}
    state = optimizer.init(params)
    some = {
        "a": normal(5, 3, seed=2).index_fill(0, torch.tensor([2]), 0),
        "b": zeros_like(params["b"]),
    }
    for grads in (zeros_like(params), some, some):
        xs, update = flat(lambda p, g, state=state: optimizer.update(p, g, state), params, grads)
        expected, given = update(*xs), jvp(update, xs, xs)[0]
        assert same_bits(tuple(given), tuple(expected))
        params, state = optimizer.update(params, grads, state)


def test_an_update_has_its_derivative_in_the_learning_rate():
    params = {"a": normal(3, 4).double()}

    def update(lr):
        made = fast_optimizer(optim.adamw(lambda step: lr.sum(), eps=0.1))
        return made.update(params, params, made.init(params))

    assert_differentiable(update, torch.tensor([0.1]).double())


def test_a_loss_has_its_derivative_in_its_weights():
    def of_weight(weight):
        return losses.softmax_cross_entropy(weight=weight).forward(X[:, :3], T)[0]

    assert_differentiable(of_weight, torch.tensor([0.5, 2.0, 3.0]).double())


# Functions of a network.

MLP = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3))
SUM = losses.softmax_cross_entropy(reduction="sum")
IMAGE = lf.serial(lf.conv2d(4, 3), lf.relu(), lf.max_pool2d(2), lf.flatten(), lf.dense(3))
PIXELS = normal(2, 2, 8, 8).double()


def last_layer(params, x):
    posterior = lf.curvature.laplace(MLP, params, [(x, T)], SUM, structure="last_layer")
    return lf.curvature.laplace_predictive(MLP, posterior, x).covariance


def first_factors(params, x):
    return [attrs.astuple(f) for f in lf.curvature.kfac_factors(MLP, params, x, LOSS, T).values()]


def clipped_gradients(params, x):
    y, cache = MLP.forward(params, x)
    g = LOSS.backward(LOSS.forward(y, T)[1])
    return lf.per_example.gradients(MLP, params, cache, g)


def traced(params, x):
    return [
        (record.output, record.gradient) for record in lf.inspect.trace(MLP, params, x, LOSS, T)
    ]


def through_rule(params, x):
    net = lf.rules.feedback_alignment(MLP)
    y, cache = net.forward(params, x)
    return net.backward(params, cache, LOSS.backward(LOSS.forward(y, T)[1]))


FUNCTIONS = {
    "gradient": lambda p, x: lf.attribution.gradient(MLP, p, x, 1),
    "gradient_times_input": lambda p, x: lf.attribution.gradient_times_input(MLP, p, x, 1),
    "integrated_gradients": lambda p, x: tuple(
        lf.attribution.integrated_gradients(MLP, p, x, 1, steps=4)
    ),
    "smooth_grad": lambda p, x: lf.attribution.smooth_grad(MLP, p, x, 1, key=lf.Key(3), samples=2),
    "attribution_patching": lambda p, x: dict(
        lf.attribution.attribution_patching(MLP, p, x[:2], x[2:4], 0)
    ),
    "ggn_diagonal": lambda p, x: lf.curvature.ggn_diagonal(MLP, p, x, LOSS, T),
    "kfac_factors": first_factors,
    "laplace": lambda p, x: lf.curvature.laplace(MLP, p, [(x, T)], SUM).precision,
    "laplace_predictive": last_layer,
    "per_example": clipped_gradients,
    "trace": traced,
}
OF_IMAGES = {
    "guided_backpropagation": lambda p, x: lf.attribution.guided_backpropagation(IMAGE, p, x, 1),
    "grad_cam": lambda p, x: lf.attribution.grad_cam(IMAGE, p, x, 1, path="0"),
    "lrp": lambda p, x: lf.attribution.lrp(IMAGE, p, x, 1).x,
}


@pytest.mark.parametrize("name", [*FUNCTIONS, *OF_IMAGES, "feedback_alignment"])
def test_a_function_of_a_network_has_its_derivative(name):
    if name in OF_IMAGES:
        assert_differentiable(OF_IMAGES[name], params_of(IMAGE, PIXELS), PIXELS)
    elif name == "feedback_alignment":
        net = lf.rules.feedback_alignment(MLP)
        assert_differentiable(through_rule, params_of(net, X), X)
    else:
        assert_differentiable(FUNCTIONS[name], params_of(MLP, X), X)


@pytest.mark.parametrize("transform", ["grad", "jvp", "autograd"])
def test_what_is_a_derivative_in_forward_mode_has_none(transform):
    params = params_of(MLP, X)
    v = lf.tree.map(torch.ones_like, params)
    products = {
        "hessian_vector_product": lambda x: lf.curvature.hessian_vector_product(
            MLP, params, x, LOSS, T, v
        ),
        "gauss_newton_vector_product": lambda x: lf.curvature.gauss_newton_vector_product(
            MLP, params, x, LOSS, T, v
        ),
        "influence": lambda x: lf.curvature.influence(
            MLP, params, x, SUM, T, (X[:1], T[:1]), damping=1.0
        ),
    }
    for name, product in products.items():
        with pytest.raises(lf.LayerError, match=f"{name}: .*; use torch.func.jvp through"):
            along(transform, lambda x: lf.tree.leaves(product(x))[0].sum(), X, X)  # noqa: B023
