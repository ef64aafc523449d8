"""Networks as scikit-learn estimators: one classifies, one predicts numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import column_or_1d
from torch import Tensor
from torch.nn.functional import logsigmoid

from lincoln_fn import losses
from lincoln_fn.core import check_argument, constructor_of, unexpected
from lincoln_fn.estimators.base import Array, NetEstimator
from lincoln_fn.losses import mse

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
