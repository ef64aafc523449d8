"""What wrong uses are refused, and what only looks like one: beside the tables of this folder."""

import re

import attrs
import numpy as np
import pandas as pd
import pytest
import torch
from helpers.compare import same_bits, same_number
from helpers.given import KEY, LOGITS, NET, NLL, PARAMS, SGD, STATE, STEP, T, X, fit, misuses, step
from helpers.optimizers import RICH
from helpers.refusals import assert_says
from torch import nn
from torch.nn.functional import one_hot
from torch.nn.utils import prune

import lincoln_fn as lf
from lincoln_fn import LayerError, StepRecord, estimators, losses
from lincoln_fn.estimators import NetClassifier
from lincoln_fn.interop import from_torch
from lincoln_fn.layers.common.constructors import _find
from lincoln_fn.training.data import batches

CONSTRUCTORS = {
    "Layer": [*_find(), lf.serial, lf.residual, lf.branch, lf.transformer_encoder_block],
    "Loss": [getattr(losses, name) for name in losses.__all__ if name.islower()],
    "Optimizer": [lf.optim.sgd, lf.optim.adam, lf.optim.adamw, lf.optim.muon, lf.optim.chain],
}


@pytest.mark.parametrize(
    ("kind", "constructor"),
    [(kind, each) for kind, all_of_it in CONSTRUCTORS.items() for each in all_of_it],
    ids=lambda given: getattr(given, "__name__", given),
)
def test_every_constructor_without_brackets_is_named(kind, constructor):
    given = {"Layer": NET, "Loss": NLL, "Optimizer": SGD, kind: constructor}
    with pytest.raises(LayerError) as caught:
        lf.make_step(*given.values())
    name = constructor.__name__
    message = f"make_step: expected {kind.lower()} to be"
    assert str(caught.value).startswith(message.replace("layer", "net"))
    assert re.search(rf"got the constructor {name}; write {name}\((\.\.\.)?\)$", str(caught.value))


# What the checks let through.


def test_a_data_frame_and_a_series_are_arrays():
    frame, series = pd.DataFrame(X.numpy()), pd.Series(T.numpy())
    (state, _), (expected, _) = fit((frame, series)), fit((X, T))
    assert same_bits(state, expected)


def test_a_list_of_numbers_is_an_array():
    (x, target), *_ = batches((X.tolist(), T.tolist()), 6)
    assert same_bits(x, X)
    assert same_bits(target, T)


def test_a_run_that_is_resumed_at_its_end_takes_no_step():
    assert list(lf.train(STEP, STATE, batches((X, T), 2, start=3))) == []
    assert list(lf.train(STEP, STATE, [])) == []


def test_early_stopping_takes_the_score_that_is_there():
    steps = [(STATE, StepRecord(i, 0.1, scores={"f1": 0.5})) for i in (1, 2, 3)]
    taken = list(lf.streams.early_stopping(steps, "f1", patience=1))
    assert [record.step for _, record in taken] == [1, 2]


# Losses on probabilities


def predictions():
    """Give each loss on probabilities what it is for, at the edges of the rounding."""
    z = torch.tensor([[0.0, -200.0], [-200.0, 0.0], [-0.6931472, -0.6931472]])
    labels, binary = torch.tensor([0, 1, 1]), torch.tensor([1.0, 0.0, 1.0])
    return {
        "nll": (losses.nll(), z, labels),
        "cross_entropy": (losses.cross_entropy(), z.exp(), labels),
        "log_loss": (losses.log_loss(), z[:, 0].exp(), binary),
        "log_sigmoid_loss": (losses.log_sigmoid_loss(), z[:, 0], binary),
        "kl_div": (losses.kl_div(), z, z.exp()),
        "kl_div of logarithms": (losses.kl_div(log_target=True), z, z),
    }


@pytest.mark.parametrize("name", predictions())
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_probabilities_pass_in_every_dtype_and_with_their_rounding(name, dtype):
    loss, prediction, target = predictions()[name]
    target = target if name != "kl_div of logarithms" else target.to(dtype)
    for moved in (prediction.to(dtype), prediction.double() * (1 + 1e-6) + 1e-6):
        value, _ = loss.forward(moved, target)
        assert value.ndim == 0


@pytest.mark.parametrize("name", predictions())
def test_what_cannot_be_read_is_not_checked(name):
    loss, prediction, target = predictions()[name]
    scaled = prediction.abs() * 3 + 2  # which no check would let through
    with pytest.raises(LayerError, match=r"expected (log-)?probabilities"):
        loss.forward(scaled, target)
    mapped = torch.func.vmap(lambda p, t: loss.forward(p[None], t[None])[0])
    assert mapped(scaled, target).shape == (3,)
    meta = loss.forward(scaled.to("meta"), target.to("meta"))[0]
    assert meta.is_meta


def counted(net):
    """Count how often a net predicts."""
    calls = []

    def predict(params, x):
        calls.append(x)
        return net.predict(params, x)

    return net.replace(predict=predict), calls


def test_a_step_checks_what_the_net_gives_once():
    net, calls = counted(NET)
    take = lf.make_step(net, NLL, SGD)
    state = STATE
    for _ in range(3):
        state, _ = take(state, (X, T))
    assert len(calls) == 1
    # A loss that takes any number is not checked at all.
    net, calls = counted(LOGITS)
    step(net, losses.softmax_cross_entropy())
    assert calls == []


@pytest.mark.parametrize("donate", [False, True])
def test_a_step_that_is_refused_at_first_leaves_the_state_and_is_refused_again(donate):
    take = lf.make_step(LOGITS, NLL, SGD, donate=donate)
    state = lf.init_state(LOGITS, SGD, KEY, X)
    before = state.params.weight.clone()
    for _ in range(2):
        assert_says("^nll: expected log-probabilities", take, state, (X, T))
        assert same_bits(state.params.weight, before)


def test_a_wrong_batch_does_not_use_up_the_first_check():
    take = lf.make_step(LOGITS, NLL, SGD)
    state = lf.init_state(LOGITS, SGD, KEY, X)
    assert_says("expected x of shape", take, state, (X[:, :2], T))
    assert_says("^nll: expected log-probabilities", take, state, (X, T))


# torch and scikit-learn


def test_a_module_whose_hooks_are_removed_is_taken():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    hook = module[0].register_forward_hook(lambda module, args, y: 2 * y)
    assert_says("^from_torch: 0 Linear: expected no hooks", from_torch, module)
    hook.remove()
    layer, params = from_torch(module)
    assert same_number(layer.predict(params, X), module(X))


def test_a_loss_that_tells_of_no_probabilities_is_named():
    made = NetClassifier(lf.dense, losses.multi_margin(), epochs=1, random_state=0)
    with pytest.raises(AttributeError) as caught:
        made.fit(X.numpy(), [0, 1, 2, 0, 1, 2]).predict_proba(X.numpy())
    message = str(caught.value.__cause__)
    assert message.startswith("NetClassifier: multi_margin() defines no probabilities; a loss")


def test_a_classifier_whose_outputs_are_no_probabilities_gives_none():
    # Sigmoids lie in [0, 1], and so pass the loss; but they sum to anything.
    net = lambda n: lf.serial(lf.dense(n), lf.sigmoid())  # noqa: E731
    made = NetClassifier(net, losses.cross_entropy(), epochs=1, random_state=0)
    with pytest.warns(UserWarning, match=r"^cross_entropy: expected .* to sum to 1.*softmax\(\)"):
        made.fit(X.numpy(), [0, 1, 2, 0, 1, 2])
    with pytest.raises(LayerError) as caught:
        made.predict_proba(X.numpy())
    assert re.match(
        r"NetClassifier: expected a net whose outputs are what cross_entropy\(\) is for, "
        r"got probabilities that sum to 1\.\d+",
        str(caught.value),
    )


# Optimizers with the state of another, and gradients that are none.


GRADS = lf.tree.map(torch.ones_like, PARAMS)
ALONE = lf.Optimizer("mine()", SGD.init, lambda params, grads, state: params)
COSINE = lf.schedules.cosine(0.1, 10)


def mixed(optimizer, of, params=PARAMS, grads=GRADS):
    """Update by one optimizer with the state of another."""
    return optimizer.update(params, grads, of.init(params))


def doubled(optimizer):
    """Take a step with a layer of one's own, whose gradients are float64."""
    dense = lf.layers.dense

    def grads(params, cache, g):
        return lf.tree.map(torch.Tensor.double, dense.grads(params, cache, g))

    net = lf.serial(lf.dense(4).replace(name="mine()", grads=grads), lf.log_softmax())
    return step(net, optimizer=optimizer)


test_states_and_gradients_that_do_not_belong_are_named = misuses("""
doubled(SGD) -> ^sgd ... torch.float32 ... at 0.weight ... torch.float64
doubled(optim.adam()) -> ^adam ... torch.float32 ... torch.float64
fit(optimizer=optim.adam(), state=STATE) -> ^adam ... AdamState ... ()
fit(state=init_state(NET, optim.adam(), KEY, X)) -> ^sgd ... state () ... AdamState
SGD.update(PARAMS, tree.map(torch.Tensor.double, GRADS), ()) -> ^sgd ... torch.float32 ...
    torch.float64
mixed(optim.adam(), optim.adam(), grads=tree.map(torch.Tensor.double, GRADS)) -> ^adam ...
    torch.float32 ... torch.float64
SGD.update((torch.ones(2),), (torch.ones(2).bool(),), ()) -> ^sgd ... torch.bool
SGD.update(PARAMS, None, ()) -> ^sgd ... gradients
SGD.update((torch.ones(2),), (1.0,), ()) -> ^sgd ... gradient ... float
SGD.update(PARAMS, (X, GRADS), ()) -> ^sgd ... gradients
optim.adam().update(optim.adam().init(PARAMS), GRADS, PARAMS) -> ^adam ... AdamState
optim.adam().update(PARAMS, GRADS, optim.adam().init((torch.ones(2),))) -> ^adam ... 2 tensors
optim.adam().update(PARAMS, GRADS, optim.adam().init((layers.dense.Params(torch.ones(2, 4),
    torch.ones(4)), ()))) -> ^adam ... (3, 4) ... (2, 4)
Optimizer('mine()', SGD.init, lambda grads, params, state: (params, state)) -> ^mine(): expected
    update(params, grads, state) ... update(grads, params, state)
step(optimizer=ALONE) -> ^mine(): expected update to return (params, state), got params Params(
step(dense(4), losses.softmax_cross_entropy(), ALONE) -> expected update to return (params, state),
    got a Params
step(optimizer=Optimizer('mine()', SGD.init, lambda p, dp, state: (state, p))) -> ^mine(): expected
    update to return (params, state), got params ()
optim.ema_params(optim.adam().init(PARAMS), PARAMS) -> ^ema_params ... running mean
optim.ema_params(PARAMS, optim.chain(optim.ema(0.9), SGD).init(PARAMS)) -> ^ema_params
mixed(optim.adam(), SGD) -> ^adam: expected state AdamState, got (); init(params) makes one$
mixed(optim.sgd(0.1, 0.9), optim.sgd(COSINE)) -> ^sgd: expected state SgdState without step ... got
mixed(optim.adam(), optim.adam(amsgrad=True)) -> ^adam ... without v_max
mixed(optim.chain(optim.ema(0.9), optim.adam()), optim.chain(optim.ema(0.9), SGD)) -> ^adam ...
    AdamState ... ()
mixed(optim.by_path({'*.weight': SGD, '*': SGD}), optim.by_path({'*': SGD})) -> ^by_path ... 2
step(optimizer=optim.radam(), state=STATE) -> ^radam ... RadamState ... ()
""")


SGDS = [SGD, lf.optim.sgd(COSINE), lf.optim.sgd(0.1, 0.9)]
RMSPROPS = [lf.optim.rmsprop(), lf.optim.rmsprop(momentum=0.9), lf.optim.rmsprop(COSINE)]
STATES = [*RICH, *SGDS, *RMSPROPS, lf.optim.adam(), lf.optim.muon()]


@pytest.mark.parametrize("optimizer", STATES, ids=str)
def test_the_state_of_every_other_optimizer_is_refused_by_name(optimizer):
    """Each has a kind of its own, or other fields."""
    params = [torch.ones(3, 4)]
    others = [other.init(params) for other in STATES]
    own = optimizer.init(params)
    others = [state for state in others if not lf.tree.same_structure(state, own, states=True)]
    assert len(others) > 20
    for state in others:
        with pytest.raises(lf.LayerError) as caught:
            optimizer.update(params, params, state)
        said = re.fullmatch(
            r"(\w+): expected (.*), got .*; init\(params\) makes one", str(caught.value)
        )
        assert said[1] in optimizer.name
        kind = type(own).__name__
        assert said[2].startswith(("state", "a tuple of 2 states"))
        assert kind in said[2] or optimizer.name.startswith(("chain", "by_path")) or own == ()


# Keys, modules of torch and estimators that would give a wrong result in silence.


TWO = np.array([0, 1, 0, 1, 0, 1])
XN = X.numpy()


def hooked(register, *arguments):
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    getattr(module, register)(*arguments)
    return from_torch(module)


def child_hooked():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    module[0].register_forward_hook(lambda module, args, y: 2 * y)
    return from_torch(module)


def patched(of="child"):
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    target = module[0] if of == "child" else module
    target.forward = lambda x: 2 * x
    return from_torch(module)


class Called(nn.Sequential):
    def __call__(self, x):
        return 2 * super().__call__(x)


def pruned():
    module = nn.Linear(3, 4)
    prune.l1_unstructured(module, "weight", amount=0.5)
    return from_torch(module)


def classifier(loss, net, y=TWO, **options):
    made = estimators.NetClassifier(net, loss, epochs=1, random_state=0, **options).fit(XN, y)
    return made.predict_proba(XN)


test_a_wrong_result_in_silence_is_refused = misuses("""
Key(0.5) -> TypeError: ^Key ... int ... 0.5
Key(True) -> TypeError: ^Key ... int ... True
Key(torch.tensor([1, 2])) -> ^Key ... shape () ... [2]
KEY.fold_in(2 ** 70) -> ^Key.fold_in ... 64 bits ... 1180591620717411303424
KEY.fold_in(1.5) -> ^Key.fold_in ... int ... 1.5
KEY.fold_in(torch.tensor(1.0)) -> ^Key.fold_in ... float32
KEY.split(2.5) -> ^Key.split ... 2.5
KEY.near('cpu') -> ^Key.near ... x to be a tensor ... str
keys.normal(0, (2,)) -> ^keys ... lf.Key(0)
keys.uniform(KEY, 2) -> shape ... (2,)
keys.permutation(5, KEY) -> ^keys ... lf.Key(5)
keys.bernoulli(KEY, (2,), 2.0) -> ValueError: ^bernoulli ... 2.0
hooked('register_forward_hook', lambda module, args, y: 2 * y) -> ^from_torch ... Sequential ...
    hook
child_hooked() -> ^from_torch ... 0 Linear ... hook
hooked('register_forward_pre_hook', lambda module, args: (2 * args[0],)) -> ^from_torch ... hook
patched('whole') -> ^from_torch ... forward
from_torch(Called(nn.Linear(3, 3))) -> ^from_torch ... Called
from_torch(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4))) -> ^from_torch
pruned() -> ^from_torch
from_torch(nn.Dropout(0.5), key=0) -> ^from_torch ... key ... lf.Key(0)
classifier(losses.cross_entropy(), dense) -> ^cross_entropy ... [0, 1]
classifier(losses.log_loss(), dense) -> ^log_loss ... [0, 1]
classifier(losses.multi_margin(), dense) -> AttributeError: predict_proba
classifier(None, relu) -> ^NetClassifier ... net ... the constructor relu
classifier(None, nn.Linear(3, 2)) -> ^NetClassifier ... net ... Linear ... from_torch
classifier('nll', dense) -> ^NetClassifier ... loss ... 'nll'
classifier(None, dense, optimizer=optim.sgd) -> ^NetClassifier ... optimizer ... sgd()
classifier(None, [dense(2)]) -> ^NetClassifier ... net ... list ... serial
estimators.NetRegressor(None, losses.nll(), epochs=1).fit(XN, XN[:, 0]) -> ^nll
estimators.NetRegressor(lambda n: n, epochs=1).fit(XN, XN[:, 0]) -> ^NetRegressor ... net ... 1
""")


# Parameters and inputs that are swapped, of another layer, or whose shapes do not fit.


D, D_PARAMS = lf.dense(4), PARAMS[0]
W, B = torch.ones(3, 4), torch.ones(4)
IMAGE, ROWS = torch.ones(2, 3, 5, 5), torch.ones(2, 3, 4)
OF_NUMPY = D.replace(name="mine()", init=lambda key, x: {"b": np.ones(3)})
OTHER = lf.serial(lf.dense(7), lf.relu(), lf.dense(4), lf.log_softmax())
OTHER_STATE = lf.init_state(OTHER, SGD, KEY, X)


def changed(layer, x, **changes):
    """Take a layer's own params with other tensors in some places."""
    return layer.forward(attrs.evolve(layer.init(KEY, x), **changes), x)


def cells(layer, **changes):
    x = torch.ones(2, 3, 5)
    params = layer.init(KEY, x)
    ((cell,),) = params.cells
    return layer.forward(type(params)(((attrs.evolve(cell, **changes),),)), x)


def trained(layer, x, **changes):
    """Take a training step, by the faster functions."""
    state = lf.init_state(layer, SGD, KEY, x)
    state = attrs.evolve(state, params=attrs.evolve(state.params, **changes))
    y = layer.predict(layer.init(KEY, x), x)
    return lf.make_step(layer, lf.losses.mse(), SGD)(state, (x, torch.zeros_like(y)))


test_parameters_that_do_not_fit_are_named = misuses("""
trained(D, X, bias=B[:1]) -> ^dense ... bias of shape (4,) ... (1,)
NET.forward(X, PARAMS) -> ^serial ... params ... float32[6, 3]
tanh().forward(X, ()) -> ^tanh ... params () ... float32[6, 3] ... (params, x)
tanh().forward(None, X) -> ^tanh ... params () ... None
NET.forward(list(PARAMS), X) -> ^serial ... 2 entries ... got list ... write a tuple
NET.predict(STATE, X) -> ^serial ... TrainState( ... give its state.params
serial(relu(), OF_NUMPY).init(KEY, X) -> ^serial[1] mine(): expected init to return tensors ...
    ndarray at b
init_state(OF_NUMPY, SGD, KEY, X) -> ^init: expected init to return tensors ... ndarray at b ...
    torch.as_tensor
D.forward(nn.Linear(3, 4), X) -> ^dense ... Linear ... from_torch
D.forward(nn.Linear(3, 4).state_dict(), X) -> ^dense ... from_state_dict
D.forward(layers.layer_norm.Params(B, B), X) -> dense.Params ... Params(
STEP(OTHER_STATE, (X, T)) -> ^serial ... 2 entries
D.forward(layers.dense.Params(W.mT, B), X) -> ^dense ... bias of shape (3,) ... (4,)
D.forward(layers.dense.Params(W[None], B), X) -> ^dense ... weight of shape (n_in, n_out) ... (1, 3,
    4)
D.forward(layers.dense.Params(W.numpy(), B), X) -> ^dense ... tensors ... ndarray
D.forward(layers.dense.Params(None, B), X) -> ^dense ... weight ... None
D.forward(layers.dense.Params(W, B.double()), X) -> ^dense ... bias of dtype torch.float32 ...
    torch.float64
trained(D, X, bias=B.double()) -> ^dense ... bias of dtype torch.float32 ... torch.float64
changed(bilinear(4), (X, X), weight=W) -> ^bilinear ... weight ... (3, 4)
embedding(5, 2).forward(layers.embedding.Params(torch.ones(5)), T) -> ^embedding ... weight of shape
    ... (5,)
changed(group_norm(1), IMAGE, weight=torch.ones(3, 5)) -> ^group_norm ... weight
changed(layer_norm(), X, weight=1.0) -> ^layer_norm ... weight ... float
changed(prelu(), X, weight=torch.ones(1, 3)) -> ^prelu ... weight ... (1, 3)
changed(positional_embedding(9), torch.ones(2, 5, 3), weight=torch.ones(5)) -> ^positional_embedding
    ... weight
cells(lstm(4), weight_ih=torch.ones(16, 5)) -> ^lstm ... weight_ih ... (16, 5)
changed(multi_head_attention(2), ROWS, query=layers.dense.Params(torch.ones(4, 4), B[:1])) ->
    ^multi_head_attention ... bias of shape (4,) ... (1,)
changed(multi_head_attention(2), ROWS, query=layers.dense.Params(torch.ones(4, 6), torch.ones(6)))
    -> ^multi_head_attention[3] ... a key with ... got 4
step(state=TrainState((layers.dense.Params(W.numpy(), B.numpy()), ()), (), KEY, torch.tensor(0))) ->
    dense ... ndarray
STEP(STATE, (X.numpy(), T)) -> dense ... ndarray ... torch.as_tensor
STEP(STATE, (T, X)) -> dense ... int64
D.backward(D_PARAMS, D.forward(D_PARAMS, X), torch.ones(6, 4)) -> ^dense(4) ... cache
tanh().forward((), D.forward(D_PARAMS, X)) -> ^tanh ... x to be a tensor ... tuple
""")


# Predictions and labels that do not belong to a loss.


Z = torch.tensor([[2.0, -1.0, 0.5, 3.0], [0.0, 1.0, -2.0, 4.0], [1.0, 1.0, 1.0, 1.0]])
LOG_P = Z.log_softmax(1)
P = Z.softmax(1)
C = torch.tensor([0, 3, 1])
HOT = one_hot(C, 4)
CE, SCE = losses.cross_entropy(), losses.softmax_cross_entropy()
BCE, LOG = losses.sigmoid_cross_entropy(), losses.log_loss()
VALUE_ALONE = lf.Loss("mine()", lambda prediction, target: prediction.sum(), NLL.backward)
Y = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])


test_what_does_not_belong_to_a_loss_is_named = misuses("""
NLL.forward(Z, C) -> ^nll ... log-probabilities ... log_softmax ... softmax_cross_entropy
step(LOGITS, NLL) -> ^nll ... log-probabilities ... log_softmax ... softmax_cross_entropy
fit(net=LOGITS, loss=NLL) -> ^nll ... log-probabilities ... log_softmax ... softmax_cross_entropy
inspect.trace(LOGITS, LOGITS.init(KEY, X), X, NLL, T) -> ^nll ... log-probabilities ... log_softmax
    ... softmax_cross_entropy
CE.forward(Z, C) -> ^cross_entropy ... [0, 1] ... softmax_cross_entropy
NLL.forward(P, C) -> ^nll ... log-probabilities ... log_softmax
CE.forward(LOG_P, C) -> ^cross_entropy ... [0, 1] ... nll
LOG.forward(Z[:, 0], Y[:3]) -> ^log_loss ... [0, 1] ... sigmoid_cross_entropy
losses.log_sigmoid_loss().forward(Z[:, 0], Y[:3]) -> ^log_sigmoid_loss ... 0
losses.kl_div().forward(P, P) -> ^kl_div ... log-probabilities
losses.kl_div().forward(LOG_P, LOG_P) -> ^kl_div ... log_target
NLL.forward(LOG_P, HOT) -> ^nll ... target of shape (3,) ... (3, 4) ... argmax(1)
NLL.forward(torch.zeros(2, 5, 4).log_softmax(2), torch.zeros(2, 5).long()) -> ^nll ... (2, 4) ...
    (2, 5)
NLL.forward(LOG_P, C.numpy()) -> ^nll ... target ... ndarray ... torch.as_tensor
NLL.forward(LOG_P, 1) -> ^nll ... target ... int
NLL.forward(NET.forward(NET.init(KEY, X), X), T) -> ^nll ... prediction ... tuple
losses.mse().forward(torch.zeros(3, 1), torch.zeros(3)) -> ^mse ... (3, 1) ... (3,)
losses.triplet_margin().forward(Z, None) -> ^triplet_margin ... anchor ... float32[3, 4]
losses.triplet_margin().forward([Z, Z, Z], None) -> ^triplet_margin ... anchor
step(serial(LOGITS, log_sigmoid()), NLL) -> ^nll ... sum to 1 ... log_softmax
NLL.backward(NLL.forward(LOG_P, C)) -> ^nll ... cache
NLL.backward(SCE.forward(Z, C)[1]) -> ^nll ... cache
step(loss=VALUE_ALONE) -> ^mine(): expected forward to return (value, cache), got a Tensor
value_and_gradient(NET, VALUE_ALONE)(PARAMS, (X, T)) -> ^mine(): expected forward to return (value,
    cache), got a Tensor
losses.nll(reduction=torch.mean) -> ^nll ... reduction ... mean
""")


# Data, metrics and streams that give nothing, or something else.


PLAIN = [(STATE, StepRecord(1, 0.5)), (STATE, StepRecord(2, 0.4))]
FRAME, SERIES = pd.DataFrame(X.numpy()), pd.Series(T.numpy())
LOADER = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, T), batch_size=2)
SCORES = torch.tensor([[2.0], [-1.0], [3.0]])


def used_up():
    """Train two epochs over one generator."""
    given = (batch for batch in [(X, T)])
    state = STATE
    for epoch in range(2):
        for state, record in lf.train(STEP, state, given):
            pass


test_data_that_is_something_else_is_named = misuses("""
metrics.accuracy(SCORES, torch.tensor([1, 0, 1])) -> ^accuracy ... (N, C) ... (3, 1) ...
    binary_accuracy
metrics.accuracy(torch.eye(3), torch.eye(3).long()) -> ^accuracy ... (3,) ... (3, 3) ... argmax(1)
metrics.accuracy(torch.eye(3), torch.tensor([1, 2, 3])) -> ^accuracy ... from 0 to 2 ... 3
metrics.accuracy(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2])) -> ^accuracy ... (N, C) ... (3,)
metrics.accuracy(np.eye(3), np.arange(3)) -> ^accuracy ... prediction ... ndarray ...
    torch.as_tensor
metrics.binary_accuracy(SCORES, torch.tensor([1, -1, 1])) -> ^binary_accuracy ... 0 or 1 ... -1
fit(FRAME) -> ^fit ... (x, target) ... DataFrame
data.batches((pd.DataFrame({'age': [1.0, 2.0], 'city': ['a', 'b']}),), 2) -> ^batches: expected
    arrays[0] ... DataFrame of ... in column 'city' ... pandas.get_dummies
data.batches((pd.DataFrame({'age': [1.0, 2.0], 'old': [False, True]}),), 2) -> arrays[0] ... bool in
    column 'old' ... .astype('float32')
data.batches((X[:2], pd.Series(['a', 'b'])), 2) -> arrays[1] ... Series of ... pandas.factorize
init_state(NET, SGD, KEY, FRAME) -> ^init_state ... DataFrame ...
    torch.as_tensor(x.to_numpy('float32'))
make_step(NET, NLL, SGD)(STATE, (X, SERIES)) -> ^nll ... Series ... y.to_numpy()
fit(X) -> ^fit ... (x, target) ... float32[6, 3]
fit(LOADER.dataset) -> ^fit ... batch_size ... DataLoader(dataset, 2)
fit(None) -> ^fit ... batches ... None
fit(list(zip(X, T, strict=True)), batch_size=None) -> ^nll ... (4,)
fit([{'x': X, 'target': T}], batch_size=None) -> batch (x, target) ... dict
fit(data.map(lambda x, t: (x, t), iter([(X, T)])), epochs=2, batch_size=None) -> iterator
fit(epochs=1.5) -> epochs ... 1.5
fit(LOADER, batch_size=None, valid=(X, T), metric=metrics.accuracy) -> batch_size
used_up() -> ^train ... at least one batch ... used up
list(train(STEP, STATE, (X, T))) -> ^train ... [(x, target)]
list(train(STEP, STATE, X)) -> ^train ... an iterable of (x, target) ... float32[6, 3]
data.batches(X, 2) -> ^batches ... tuple ... (x,)
data.batches(X, T) -> ^batches ... batch_size ... int64[6]
data.batches((), 2) -> ^batches ... at least one array
data.batches((X, T), 2, start=STATE) -> ^batches ... start
data.batches((X, T), 2).at(-1) -> ^batches ... -1
data.map(LOADER, lambda x, t: (x, t)) -> ^map ... f ... DataLoader
evaluate(NET, PARAMS, [(X, T)], {}) -> ^evaluate ... metric
evaluate(NET, PARAMS, [(X, T)], {'right': lambda p, t: p.argmax(1) == t}) -> ^evaluate ... one
    number ... right
evaluate(NET, PARAMS, [((), T)], ACCURACY) -> dense(4) ... x to be a tensor
list(streams.early_stopping(PLAIN, 'loss', patience=1, mode='min')) -> ^early_stopping ... 'loss'
    ... evaluated
list(streams.early_stopping(PLAIN, metrics.accuracy, patience=1)) -> ^early_stopping ... metric ...
    name
streams.evaluated(PLAIN, NET, iter([(X, T)]), ACCURACY, every=1) -> ^evaluated ... iterator
list(streams.evaluated(PLAIN, NET, (X, T), ACCURACY, every=1)) -> [(x, target)]
""")
