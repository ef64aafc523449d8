"""Networks as scikit-learn estimators: scikit-learn's own checks, its tools, and what is learnt."""

import pickle

import numpy as np
import pytest
import torch
from helpers import CE, assert_says, run_child, same_bits, same_number

import lincoln_fn as lf

pytest.importorskip("sklearn", minversion="1.6", reason="scikit-learn is optional")

import cloudpickle
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from lincoln_fn.estimators import NetClassifier, NetRegressor


# The dearest of them train for long.
@pytest.mark.full(but=("check_estimator_cloneable", "NetRegressor()-check_fit_idempotent"))
@parametrize_with_checks([NetClassifier(), NetRegressor()])
def test_scikit_learns_own_checks_pass(estimator, check):
    check(estimator)


def iris():
    features, species = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])
    return StandardScaler().fit_transform(features), names[species]


def sigmoid_net(n_out):
    return lf.serial(lf.dense(10), lf.sigmoid(), lf.dense(n_out))


@pytest.mark.full
def test_a_pipeline_tells_tumours_apart_that_it_never_saw():
    features, labels = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), NetClassifier(epochs=20, random_state=0))
    assert cross_val_score(pipeline, features, labels).mean() > 0.97


def test_a_regressor_learns_what_no_line_can():
    x = np.linspace(-2, 2, 200)[:, None]
    wave = np.cos(2 * x[:, 0])
    regressor = NetRegressor(optimizer=lf.optim.adam(0.02), random_state=0).fit(x, wave)
    assert regressor.score(x, wave) > 0.98


@pytest.mark.full
def test_a_grid_search_goes_over_nets_optimizers_and_numbers():
    grid = {
        "net": [None, lf.serial(lf.dense(4), lf.batch_norm(), lf.dense(3))],
        "optimizer": [lf.optim.sgd(1e-6), lf.optim.adam(0.03)],
        "epochs": [1, 20],
    }
    search = GridSearchCV(NetClassifier(random_state=0), grid, n_jobs=1, cv=3)
    x, y = iris()
    search.fit(x, y)
    assert search.best_score_ > 0.93
    assert search.best_params_["optimizer"] is grid["optimizer"][1]
    assert search.best_params_["epochs"] == 20
    assert len(set(search.cv_results_["mean_test_score"])) > 4
    best = search.predict_proba(x)
    for written in (pickle.dumps(search.best_estimator_), cloudpickle.dumps(search)):
        assert same_bits(pickle.loads(written).predict_proba(x), best)


@pytest.mark.parametrize("net", [None, sigmoid_net, sigmoid_net(3), lambda n: lf.dense(n)])
def test_a_pickled_copy_predicts_the_same_and_trains_on(net):
    x, y = iris()
    fitted = NetClassifier(net, CE, lf.optim.adamw(0.01), epochs=3, random_state=0).fit(x, y)
    copy = pickle.loads(pickle.dumps(make_pipeline(fitted)))[0]
    assert same_bits(copy.predict_proba(x), fitted.predict_proba(x))
    assert same_bits(copy.partial_fit(x, y).state_, fitted.partial_fit(x, y).state_)


def test_fit_is_the_fit_of_the_library_with_the_key_of_random_state():
    x, y = iris()
    given = NetClassifier(sigmoid_net, epochs=3, batch_size=16, random_state=7).fit(x, y)
    target = torch.tensor(np.unique(y, return_inverse=True)[1])
    state, history = lf.fit(
        sigmoid_net(3), CE, lf.optim.adam(0.003), (torch.tensor(x), target), key=lf.Key(7),
        epochs=3, batch_size=16, progress=False,
    )  # fmt: skip
    assert same_bits(given.state_, state)
    assert [line.loss for line in given.history_] == [line.loss for line in history]
    logits = given.net_.predict(state.params, torch.tensor(x))
    assert same_number(given.predict_proba(x), logits.softmax(1).numpy())
    assert (given.predict(x) == given.classes_[logits.argmax(1).numpy()]).all()


@pytest.mark.full
def test_the_random_state_alone_decides_the_bits():
    x, y = iris()

    def run(random_state):
        return NetClassifier(epochs=2, random_state=random_state).fit(x, y).state_

    assert same_bits(run(3), run(np.int32(3)))
    assert same_bits(run(np.random.RandomState(3)), run(np.random.RandomState(3)))
    bias = run(3).params[0].bias
    assert not same_bits(bias, run(4).params[0].bias)
    assert not same_bits(bias, run(np.random.RandomState(3)).params[0].bias)
    assert not same_bits(run(None).params[0].bias, run(None).params[0].bias)


LINKS = {
    "softmax": (CE, lf.identity(), 2),
    "nll": (lf.losses.nll(), lf.log_softmax(), 2),
    "cross_entropy": (lf.losses.cross_entropy(), lf.softmax(), 2),
    "sigmoid": (lf.losses.sigmoid_cross_entropy(), lf.identity(), 1),
    "log_sigmoid": (lf.losses.log_sigmoid_loss(), lf.log_sigmoid(), 1),
    "log_loss": (lf.losses.log_loss(), lf.sigmoid(), 1),
}


@pytest.mark.parametrize(("loss", "last", "outputs"), LINKS.values(), ids=LINKS)
def test_probabilities_are_read_as_the_loss_means_the_outputs(loss, last, outputs):
    x, y = iris()
    x, y = x[50:], y[50:]

    def net(n_out):
        return lf.serial(lf.dense(n_out), last)

    classifier = NetClassifier(net, loss, lf.optim.adam(0.1), random_state=0).fit(x, y)
    weight = classifier.state_.params[0].weight
    assert weight.shape == (4, outputs)
    logits = torch.tensor(x) @ weight + classifier.state_.params[0].bias
    if outputs == 1:
        logits = torch.cat((torch.zeros_like(logits), logits), 1)
    p = classifier.predict_proba(x)
    assert same_number((p, np.exp(classifier.predict_log_proba(x))), (logits.softmax(1).numpy(), p))
    assert (classifier.predict(x) == classifier.classes_[p.argmax(1)]).all()
    assert classifier.score(x, y) > 0.95


def test_a_loss_that_tells_of_no_probabilities_has_labels_all_the_same():
    x, y = iris()
    classifier = NetClassifier(loss=lf.losses.multi_margin(), random_state=0).fit(x, y)
    assert classifier.score(x, y) > 0.95
    assert not hasattr(classifier, "predict_proba")
    assert not hasattr(classifier, "predict_log_proba")


@pytest.mark.parametrize("labels", [[-1, 1], [False, True], ["no", "yes"], [2.0, 7.0]])
def test_labels_come_back_as_they_were(labels):
    x, y = np.array([[-1.0], [1.0]] * 10), np.array(labels * 10)
    classifier = NetClassifier(random_state=0).fit(x, y)
    assert (classifier.predict(x).dtype, classifier.predict(x).tolist()) == (y.dtype, y.tolist())


def test_a_net_computes_in_the_dtype_of_the_features():
    x, y = iris()
    for dtype, own in ((np.float32, torch.float32), (np.float64, torch.float64)):
        regressor = NetRegressor(epochs=1, random_state=0).fit(x.astype(dtype), x[:, 0])
        assert regressor.state_.params[0].weight.dtype is own
        assert regressor.predict(x).dtype == dtype
    # The first tensor of these params is a key.
    net = lf.serial(lf.dropout(), lf.dense(3))
    probabilities = NetClassifier(net, epochs=1).fit(x.astype(np.float32), y).predict_proba(x)
    assert probabilities.dtype == np.float64
    assert same_number(probabilities.sum(1), np.ones(len(probabilities)), dtype=torch.float64)


def test_the_layout_of_the_features_does_not_count():
    x, y = iris()
    state = NetClassifier(epochs=1, random_state=0).fit(x, y).state_
    for same in (np.asfortranarray(x), x[:, ::-1].copy()[:, ::-1]):
        assert same_bits(NetClassifier(epochs=1, random_state=0).fit(same, y).state_, state)


def test_targets_keep_their_shape():
    x, _ = iris()
    for y in (x[:, 0], x[:, :1], x[:, :2]):
        regressor = NetRegressor(random_state=0).fit(x, y)
        assert regressor.predict(x).shape == y.shape
        assert regressor.score(x, y) > 0.98


@pytest.mark.parametrize("again", ["fit", "partial_fit"])
def test_training_goes_on_where_it_stood(again):
    x, y = iris()
    state = NetClassifier(epochs=2, random_state=0).fit(x, y).state_
    classifier = NetClassifier(epochs=2, warm_start=True, random_state=0).fit(x, y)
    classifier.set_params(epochs=1)
    getattr(classifier, again)(x, y)
    step = lf.make_step(classifier.net_, CE, lf.optim.adam(0.003))
    target = torch.tensor(np.unique(y, return_inverse=True)[1])
    key = state.key.fold_in(state.step)
    for state, _ in lf.train(step, state, lf.data.batches((torch.tensor(x), target), 128, key=key)):
        pass
    assert same_bits(classifier.state_.params, state.params)
    assert same_bits(classifier.state_.opt_state, state.opt_state)
    assert [line.epoch for line in classifier.history_] == [1]


def test_partial_fit_of_a_regressor_takes_one_epoch():
    x, _ = iris()
    first = NetRegressor(epochs=1, random_state=0).fit(x, x[:, 0])
    second = NetRegressor(epochs=9, random_state=0).partial_fit(x, x[:, 0])
    assert same_bits(second.state_, first.state_)
    assert same_bits(second.partial_fit(x, x[:, 0]).state_, first.partial_fit(x, x[:, 0]).state_)
    assert int(second.state_.opt_state.step) == 2 * 2
    assert_says("ValueError: is expecting 4 features", second.partial_fit, x[:, :3], x[:, 0])


@pytest.mark.full
def test_partial_fit_learns_from_parts_that_lack_classes():
    x, y = iris()
    classifier = NetClassifier(optimizer=lf.optim.adam(0.01), random_state=0)
    for _ in range(60):
        for rows in (slice(0, 50), slice(50, 100), slice(100, 150)):
            classifier.partial_fit(x[rows], y[rows], classes=np.unique(y))
    assert classifier.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert classifier.score(x, y) > 0.9


def test_what_does_not_fit_is_refused():
    x, y = iris()
    two = NetClassifier(lf.serial(lf.dense(2), lf.relu()))
    assert_says("ValueError: expected a net with 3 outputs ... got (1, 2)", two.fit, x, y)
    binary = NetClassifier(loss=lf.losses.sigmoid_cross_entropy())
    assert_says("ValueError: needs 2 classes, got 3; take", binary.fit, x, y)
    assert_says("ValueError: epochs of at least 1", NetClassifier(epochs=0).fit, x, y)
    assert_says("ValueError: batch_size of at least", NetRegressor(batch_size=0).fit, x, x)
    assert_says("ValueError: classes in the first call", NetClassifier().partial_fit, x, y)
    assert_says("AttributeError: predict_proba", getattr, NetRegressor(), "predict_proba")


def test_going_on_with_something_else_is_refused():
    x, y = iris()
    warm = NetClassifier(epochs=1, warm_start=True, random_state=0).fit(x, y)
    state = warm.state_
    assert_says("ValueError: expected the classes fitted before", warm.fit, x[50:], y[50:])
    assert_says("ValueError: of the first call", warm.partial_fit, x, y, classes=["a", "b"])
    assert_says("ValueError: got ['b'] too", warm.partial_fit, x[:2], ["setosa", "b"])
    # Adamax keeps tensors of the same shapes as Adam, in a record of its own.
    others = (sigmoid_net, None), (None, lf.optim.sgd(0.1)), (None, lf.optim.adamax())
    for net, optimizer in others:
        warm.set_params(net=net, optimizer=optimizer)
        assert_says("ValueError: start again", warm.fit, x, y)
    warm.set_params(net=None, optimizer=None)
    assert_says("ValueError: start again", warm.fit, x.astype(np.float32), y)
    assert warm.state_ is state


@pytest.mark.parametrize("make", [NetClassifier, NetRegressor])
def test_what_was_fitted_stays_if_other_features_are_refused(make):
    x, y = iris()
    y = y if make is NetClassifier else x[:, 0]
    warm = make(epochs=1, warm_start=True, random_state=0).fit(x, y)
    expected = warm.predict(x)
    assert_says("ValueError: expecting 4 features", warm.fit, x[:, :2], y)
    assert warm.n_features_in_ == 4
    assert (warm.predict(x) == expected).all()


def test_progress_is_shown_if_wanted(capsys):
    NetRegressor(epochs=2, random_state=0).fit([[0.0], [1.0]], [0.0, 1.0])
    assert capsys.readouterr() == ("", "")
    NetRegressor(epochs=2, random_state=0, verbose=True).fit([[0.0], [1.0]], [0.0, 1.0])
    assert "loss" in "".join(capsys.readouterr())


WITHOUT = """
import sys
sys.modules["sklearn"] = None
import lincoln_fn as lf
print(lf.dense(2))
import lincoln_fn.estimators
"""


def test_the_library_loads_without_scikit_learn_and_says_what_is_missing():
    ran = run_child(WITHOUT)
    assert ran.stdout == "dense(2)\n"
    assert "pip install 'lincoln_fn[sklearn]'" in ran.stderr
