"""Networks as scikit-learn estimators: what both share, one that classifies, one for numbers.

Both share their parameters, training, outputs, and how they are pickled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import cloudpickle
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from lincoln_fn import core, losses
from lincoln_fn.combine import serial
from lincoln_fn.core import Key, Layer, check_argument, constructor_of, unexpected, wrong_kind
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.relu import relu
from lincoln_fn.losses import Loss, mse
from lincoln_fn.optim import Optimizer, adam
from lincoln_fn.training import FitRecord, TrainState, fit, init_state

# A network, or a function of the number of its outputs that makes one.
Net: TypeAlias = Layer | Callable[[int], Layer]
Array: TypeAlias = NDArray[Any]  # Any: arrays of every dtype

# The number of rows predicted at a time, so that the outputs of wide layers do not fill the memory.
_ROWS: Final = 1024
# The attributes that may hold a user's lambdas, which pickle alone cannot save.
_FUNCTIONS: Final = ("net", "loss", "optimizer", "net_")


class NetEstimator(BaseEstimator):  # type: ignore[misc]  # BaseEstimator has no types
    """A network with scikit-learn's interface; the subclasses document the arguments."""

    def __init__(
        self,
        net: Net | None = None,
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        *,
        epochs: int = 100,
        batch_size: int = 128,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.net = net
        self.loss = loss
        self.optimizer = optimizer
        self.epochs = epochs
        self.batch_size = batch_size
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    n_features_in_: int
    net_: Layer
    state_: TrainState
    history_: tuple[FitRecord, ...]

    def _goes_on(self) -> bool:
        return self.warm_start and hasattr(self, "state_")

    def _train(
        self, x: Array, target: Array, n_out: int, loss: Loss, *, epochs: int, goes_on: bool
    ) -> None:
        """Fit the network from new parameters, or continue from `state_`, and keep the results."""
        name = type(self).__name__
        net = _net(name, self.net, n_out)
        optimizer = adam(0.003) if self.optimizer is None else self.optimizer
        check_argument(name, "loss", Loss, loss)
        check_argument(name, "optimizer", Optimizer, optimizer)
        example = torch.as_tensor(x[:1])
        key = self.state_.key.fold_in(self.state_.step) if goes_on else self._key()
        state = init_state(net, optimizer, key, example)
        shape = tuple(net.predict(state.params, example).shape)
        if shape != (1, n_out):
            expected = f"a net with {n_out} outputs an example, shape (1, {n_out})"
            raise unexpected(name, expected, f"{shape} from {net}")
        if goes_on:
            if not core.mirrors(state, self.state_, states=True):
                problem = "expected to go on with the net, optimizer and kind of data fitted before"
                mend = "fit with warm_start=False to start again"
                raise ValueError(f"{name}: {problem}, got others; {mend}")
            # Steps count from 0 again, so that epochs are whole if there are fewer examples now;
            # the order of the data is drawn from a key that no call before had.
            state = TrainState(self.state_.params, self.state_.opt_state, key, state.step)
        arrays = torch.as_tensor(x), torch.as_tensor(target)
        self.state_, self.history_ = fit(
            net, loss, optimizer, arrays, key=key, epochs=epochs, batch_size=self.batch_size,
            state=state, progress=self.verbose,
        )  # fmt: skip
        self.net_, self._dtype = net, x.dtype

    def _key(self) -> Key:
        if isinstance(self.random_state, int | np.integer):
            return Key(int(self.random_state))
        return Key(int(check_random_state(self.random_state).randint(2**31)))

    # Any: of sklearn
    def _features(
        self, X: ArrayLike, dtype: object = (np.float64, np.float32), **options: object
    ) -> Any:
        """Check features, and y if it is given, and return arrays that torch accepts."""
        return validate_data(self, X, dtype=dtype, order="C", force_writeable=True, **options)

    def _outputs(self, X: ArrayLike) -> Tensor:
        """Compute the fitted network's outputs, in the dtype of `fit`."""
        check_is_fitted(self)
        x = torch.as_tensor(self._features(X, dtype=self._dtype, reset=False))
        parts = [x[first : first + _ROWS] for first in range(0, len(x), _ROWS)]
        return torch.cat([self.net_.predict(self.state_.params, part) for part in parts])

    def __getstate__(self) -> dict[str, Any]:  # Any: attributes of every kind
        # A user's functions may be lambdas and closures, which cloudpickle saves by their code.
        state = dict(super().__getstate__())
        functions = {name: state.pop(name) for name in _FUNCTIONS if name in state}
        return {**state, "_functions": cloudpickle.dumps(functions)}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: as above
        kept = {name: value for name, value in state.items() if name != "_functions"}
        super().__setstate__({**kept, **cloudpickle.loads(state["_functions"])})


def _net(name: str, net: Net | None, n_out: int) -> Layer:
    if net is None:
        return serial(dense(100), relu(), dense(n_out))
    if isinstance(net, Layer):
        return net
    if not callable(net) or isinstance(net, nn.Module | type):
        raise wrong_kind(name, "net", net, "Layer")
    try:
        made = net(n_out)
    except TypeError as error:
        mend = "it is called with the number of outputs"
        raise core.LayerError(name, f"net: {core.describe(net)} raised {error}; {mend}") from error
    check_argument(name, "net", Layer, made)
    return made


# By a loss's constructor: how a net's outputs become log-probabilities of the classes.
_Table: TypeAlias = dict[Callable[..., losses.Loss] | None, Callable[[Tensor], Tensor]]
_OF_ALL_CLASSES: Final[_Table] = {
    losses.softmax_cross_entropy: lambda logits: logits.log_softmax(1),
    losses.nll: lambda log_p: log_p,
    losses.cross_entropy: torch.log,
}
# Likewise for losses with one output per example, which belongs to the second of two classes.
_OF_SECOND_CLASS: Final[_Table] = {
    losses.sigmoid_cross_entropy: lambda z: torch.cat((logsigmoid(-z), logsigmoid(z)), 1),
    losses.log_sigmoid_loss: lambda log_p: torch.cat((torch.log(-torch.expm1(log_p)), log_p), 1),
    losses.log_loss: lambda p: torch.cat((torch.log1p(-p), torch.log(p)), 1),
}
# The rounding error of outputs, even in bfloat16, is smaller; normalising the sum removes the rest.
_SUM_TOLERANCE: Final = 0.1


def _loss_of(estimator: NetClassifier) -> losses.Loss:
    loss = losses.softmax_cross_entropy() if estimator.loss is None else estimator.loss
    check_argument("NetClassifier", "loss", losses.Loss, loss)
    return loss


def _has_one_output(loss: losses.Loss) -> bool:
    return constructor_of(loss) in _OF_SECOND_CLASS


def _log_probabilities(estimator: NetClassifier) -> Callable[[Tensor], Tensor]:
    loss = _loss_of(estimator)
    known = {**_OF_ALL_CLASSES, **_OF_SECOND_CLASS}
    if constructor_of(loss) not in known:
        mend = f"a loss that does is one of {', '.join(of.__name__ for of in known if of)}"
        raise AttributeError(f"NetClassifier: {loss} defines no probabilities; {mend}")
    return known[constructor_of(loss)]


class NetClassifier(ClassifierMixin, NetEstimator):  # type: ignore[misc]  # no types
    """A classifier made of a network, a loss and an optimizer.

    Labels may be of any kind that scikit-learn accepts; the loss gets their indices in `classes_`.
    The network computes in the dtype of X, float32 or float64, and in float64 for any other. It
    learns best from features of mean 0 and variance 1: put a `StandardScaler` before it.

    A pickle contains functions as code, which loading it runs: do not load one from a stranger.

    Args:
        net: the whole network, or a function from the number of outputs to the network, such as
            `lambda n_out: lf.serial(lf.dense(50), lf.sigmoid(), lf.dense(n_out))`. It has an output
            for each class, or a single one if the loss takes one. None gives a hidden layer of 100
            units with ReLU.
        loss: a loss on class indices. None is `losses.softmax_cross_entropy()`, on logits.
        optimizer: None is `optim.adam(0.003)`.
        warm_start: whether `fit` continues from the last parameters and optimizer's state.
        random_state: a number n gives the run of `lf.fit` with `key=lf.Key(n)`. A numpy
            `RandomState` draws that number; None draws it from numpy's global generator, as is
            usual in scikit-learn.

    Attributes:
        classes_: the labels, sorted; the columns of probabilities are in this order.
        net_: the network, with as many outputs as needed.
        state_: the last `TrainState` of the training.
        history_: the training history of the last call, a `FitRecord` for each epoch.

    Example:
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
        >>> NetClassifier(random_state=0).fit(X, y).predict([[0.5], [2.5]]).tolist()
        ['low', 'high']
    """

    classes_: Array

    def fit(self, X: ArrayLike, y: ArrayLike) -> NetClassifier:
        """Train the network on X of shape (examples, features), and labels y (examples,)."""
        goes_on = self._goes_on()
        x, labels = self._check(X, y, reset=not goes_on)
        classes = unique_labels(labels)
        if goes_on and not np.array_equal(classes, self.classes_):
            problem = f"expected the classes fitted before, {self.classes_}, to go on with"
            mend = "fit with warm_start=False to start again"
            raise ValueError(f"NetClassifier: {problem}, got {classes}; {mend}")
        return self._learn(x, labels, classes, epochs=self.epochs, goes_on=goes_on)

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None
    ) -> NetClassifier:
        """Train for one epoch on some of the examples, from the current parameters on.

        Args:
            y: labels, of shape (examples,); some classes may be missing.
            classes: all labels; needed in the first call, and the same in later ones.
        """
        goes_on = hasattr(self, "state_")
        if classes is None and not goes_on:
            raise ValueError("NetClassifier: expected classes in the first call of partial_fit")
        known = self.classes_ if classes is None else unique_labels(classes)
        if goes_on and not np.array_equal(known, self.classes_):
            problem = f"expected the classes of the first call, {self.classes_}"
            raise ValueError(f"NetClassifier: {problem}, got {known}")
        x, labels = self._check(X, y, reset=not goes_on)
        return self._learn(x, labels, known, epochs=1, goes_on=goes_on)

    def predict(self, X: ArrayLike) -> Array:
        """Return the class with the highest output, for each example."""
        outputs = self._outputs(X)
        if _has_one_output(_loss_of(self)):
            outputs = _log_probabilities(self)(outputs)
        labels: Array = self.classes_[outputs.argmax(1).numpy()]
        return labels

    @available_if(_log_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Return the logarithms of `predict_proba`, without its rounding to 0."""
        log_p = _log_probabilities(self)(self._outputs(X).double())
        sums = log_p.exp().sum(1)
        wrong = sums[~((sums - 1).abs() <= _SUM_TOLERANCE)]
        if len(wrong):
            loss = _loss_of(self)
            got = f"probabilities that sum to {wrong[0].item():.3g}"
            raise unexpected("NetClassifier", f"a net whose outputs are what {loss} is for", got)
        array: Array = (log_p - sums.log()[:, None]).numpy()
        return array

    @available_if(_log_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the probabilities, of shape (examples, classes), in float64.

        The losses that define them are `softmax_cross_entropy`, `nll`, `cross_entropy`, and for two
        classes `sigmoid_cross_entropy`, `log_sigmoid_loss` and `log_loss`.
        """
        p: Array = np.exp(self.predict_log_proba(X))
        return p

    def _check(self, X: ArrayLike, y: ArrayLike, *, reset: bool) -> tuple[Array, Array]:
        x, labels = self._features(X, y=y, reset=reset)
        check_classification_targets(labels)
        return x, column_or_1d(labels, warn=True)

    def _learn(
        self, x: Array, labels: Array, classes: Array, *, epochs: int, goes_on: bool
    ) -> NetClassifier:
        unseen = np.setdiff1d(labels, classes)
        if unseen.size:
            raise ValueError(f"NetClassifier: expected labels among {classes}, got {unseen} too")
        loss, n_out = _loss_of(self), len(classes)
        if _has_one_output(loss):
            if n_out != 2:
                mend = "take losses.softmax_cross_entropy()"
                raise ValueError(f"NetClassifier: {loss} needs 2 classes, got {n_out}; {mend}")
            n_out = 1
        target = np.searchsorted(classes, labels)
        self._train(x, target, n_out, loss, epochs=epochs, goes_on=goes_on)
        self.classes_ = classes
        return self


class NetRegressor(RegressorMixin, NetEstimator):  # type: ignore[misc]  # no types
    """A regressor made of a network, a loss and an optimizer.

    The network computes in the dtype of X, float32 or float64, and in float64 for any other. It
    learns best from features and targets of mean 0 and variance 1: put a `StandardScaler` before
    it, and a `TransformedTargetRegressor` around it.

    Its arguments, its attributes but `classes_`, and its pickles are those of `NetClassifier`. The
    network has an output for each target. The loss is one on numbers, such as `losses.huber()`;
    None is `losses.mse()`.

    Example:
        >>> X, y = [[-1.0], [0.0], [1.0]], [2.0, 1.0, 2.0]
        >>> regressor = NetRegressor(optimizer=lf.optim.adam(0.03), random_state=0)
        >>> regressor.fit(X, y).predict(X).round(1).tolist()
        [2.0, 1.0, 2.0]
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> NetRegressor:
        """Train on X of shape (examples, features), and y of (examples,) or (examples, targets)."""
        return self._learn(X, y, epochs=self.epochs, goes_on=self._goes_on())

    def partial_fit(self, X: ArrayLike, y: ArrayLike) -> NetRegressor:
        """Train for one epoch on some of the examples, from the current parameters on."""
        return self._learn(X, y, epochs=1, goes_on=hasattr(self, "state_"))

    def predict(self, X: ArrayLike) -> Array:
        """Give the network's outputs, of y's shape in `fit`, in the dtype of `fit`."""
        outputs: Array = self._outputs(X).numpy()
        return outputs.squeeze(1) if self._one_target else outputs

    def __sklearn_tags__(self) -> Any:  # Any: of sklearn
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _learn(self, X: ArrayLike, y: ArrayLike, *, epochs: int, goes_on: bool) -> NetRegressor:
        # What was fitted before stays, its number of features too, if this X is refused.
        x, given = self._features(X, y=y, reset=not goes_on, multi_output=True, y_numeric=True)
        target = np.array(given.reshape(len(given), -1), dtype=x.dtype)
        loss = mse() if self.loss is None else self.loss
        self._train(x, target, target.shape[1], loss, epochs=epochs, goes_on=goes_on)
        self._one_target = given.ndim == 1
        return self
