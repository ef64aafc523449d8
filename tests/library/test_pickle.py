"""What the library makes can be pickled and deep-copied, and its copies compute the same bits."""

import pickle
from functools import partial

import attrs
import pytest
import torch
from helpers import FIRST, normal
from helpers.copies import affine, assert_copies, copies_of
from helpers.fast_layers import changed
from helpers.initializers import ALL as INITIALIZERS
from helpers.losses import TABLE as LOSSES
from helpers.optimizers import EVERY, KINDS, MATRIX_KINDS, RICH, leaves_of
from helpers.schedules import SCHEDULES

import lincoln_fn as lf
from lincoln_fn import metrics, optim
from lincoln_fn.fastpath.optimizers import adam_update, fast_optimizer, sgd_update
from lincoln_fn.initializers import Fans
from lincoln_fn.losses.internal import unchecked
from lincoln_fn.optim import chain

# torch warns of its own kl_div that "mean" is not the divergence.
pytestmark = pytest.mark.filterwarnings("ignore:reduction:UserWarning")


def layer_results(x, layer):
    params = layer.init(lf.Key(11), x)
    y, cache = layer.forward(params, x)
    return (
        params,
        y,
        layer.predict(params, x),
        layer.backward(params, cache, y),
        layer.input_grad(params, cache, y),
        layer.grads(params, cache, y),
        layer.advance(params, cache),
    )


# In the short suite test_declaration.py and test_record.py pickle every layer and its params.
@pytest.mark.full(but=("[dense(4)-", "[batch_norm()-", "[dropout()-", "[lstm(4)-", "[residual("))
@pytest.mark.parametrize("case", FIRST, ids=str)
def test_a_layer(case):
    assert_copies(case.layer, partial(layer_results, case.x))
    if changed(case.layer):
        assert_copies(lf.fast(case.layer), partial(layer_results, case.x))


def doubled(x):
    return 2 * x


def first_scale(key, x):
    return (x.new_ones(()) * 3,)


@pytest.mark.parametrize(
    "layer",
    [lf.interop.from_function(doubled), lf.interop.from_function(affine, first_scale)],
    ids=str,
)
def test_a_layer_of_a_function(layer):
    assert_copies(layer, partial(layer_results, normal(4, 3)))


def test_a_copy_is_made_fast_as_the_layer_is():
    net = lf.serial(lf.conv2d(4, 3), lf.relu(), lf.flatten(), lf.dense(3), lf.log_softmax())

    def functions(net):
        return [getattr(part.backward, "func", part.backward) for part in lf.fast(net).parts]

    assert functions(net) != [getattr(part.backward, "func", part.backward) for part in net.parts]
    for way, made in copies_of(net):
        assert functions(made) == functions(net), way


def loss_results(row, loss):
    value, cache = loss.forward(row.prediction, row.target)
    return value, loss.backward(cache, value)


@pytest.mark.parametrize("row", LOSSES, ids=str)
def test_a_loss(row):
    for loss in (row.loss("none"), unchecked(row.loss("mean"))):
        assert_copies(loss, partial(loss_results, row))


def optimizer_results(optimizer):
    kinds = MATRIX_KINDS if optimizer.name.startswith("muon") else KINDS
    params = leaves_of(kinds, 0)
    states = [optimizer.init(params)]
    for t in range(2):
        params, state = optimizer.update(params, leaves_of(kinds, 1 + t), states[-1])
        states.append(state)
    return params, states


BY_PATH = optim.by_path({"*d*": optim.sgd(0.1, momentum=0.9), "*": optim.adamw()})
OPTIMIZERS = [*EVERY, *RICH[:-1], BY_PATH]


@pytest.mark.full(but=("-by_path(", "-muon(0.001)"))
@pytest.mark.parametrize(
    "optimizer", OPTIMIZERS, ids=[f"{i}-{o}" for i, o in enumerate(OPTIMIZERS)]
)
def test_an_optimizer(optimizer):
    for each in (optimizer, fast_optimizer(optimizer)):
        assert_copies(each, optimizer_results)


def test_a_copy_of_an_optimizer_is_made_fast_as_the_optimizer_is():
    for way, made in copies_of(optim.sgd(0.1)):
        assert fast_optimizer(made, donate=True).update.args[0].faster is sgd_update, way
    for way, made in copies_of(chain(optim.accumulate(2), optim.adamw())):
        (inner,) = fast_optimizer(made).update.args
        assert inner.update.args[0].faster is adam_update, way


def is_a_bias(path):
    return path == "bias"


TRANSFORMS = [
    optim.clip_by_global_norm(0.5),
    optim.clip_by_value(0.5),
    optim.weight_decay(0.1),
    optim.weight_decay(0.1, mask=is_a_bias),
    optim.accumulate(2),
    optim.ema(0.9),
]


# A mask shows its place in memory, which differs from process to process.
@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: str(t).partition("<")[0])
def test_a_transform(transform):
    assert_copies(transform, lambda made: optimizer_results(chain(made, optim.adam())))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_schedule(schedule):
    assert_copies(schedule, lambda made: tuple(made(step) for step in (0, 4, 17)))


@pytest.mark.parametrize("initializer", INITIALIZERS, ids=str)
def test_an_initializer(initializer):
    shape = (6, 4, 3) if initializer.name.startswith("dirac") else (6, 4)

    def draw(made):
        return made.draw(lf.Key(3), shape, Fans(6, 4), torch.float32)

    assert_copies(initializer, draw)


METRICS = [metrics.accuracy, metrics.top_k_error(2), partial(metrics.binary_accuracy, threshold=0)]


@pytest.mark.parametrize("metric", METRICS, ids=["accuracy", "top_k_error", "binary_accuracy"])
def test_a_metric(metric):
    prediction, target = normal(9, 3), torch.arange(9) % 3
    if metric is METRICS[2]:
        prediction, target = prediction[:, 0], target % 2
    for way, made in copies_of(metric):
        assert made(prediction, target) == metric(prediction, target), way


def test_a_users_own_lambda_says_what_cannot_be_pickled():
    layer = attrs.evolve(lf.tanh(), predict=lambda params, x: torch.tanh(x))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(layer)
