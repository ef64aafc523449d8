"""What wrong uses are refused, and what only looks like one: beside the tables of this folder."""

import re

import pandas as pd
import pytest
import torch
from helpers.compare import same_bits, same_number
from helpers.given import KEY, LOGITS, NET, NLL, SGD, STATE, STEP, T, X, fit, step
from helpers.refusals import assert_says

import lincoln_fn as lf
from lincoln_fn import LayerError, StepRecord, losses
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
