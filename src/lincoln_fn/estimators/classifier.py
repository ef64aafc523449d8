"""A network that tells classes apart, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin  # type: ignore[import-untyped]  # has no types
from sklearn.utils.metaestimators import available_if  # type: ignore[import-untyped]
from sklearn.utils.multiclass import (  # type: ignore[import-untyped]
    check_classification_targets,
    unique_labels,
)
from sklearn.utils.validation import column_or_1d  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import logsigmoid

from lincoln_fn._kinds import check_kinds
from lincoln_fn.estimators.base import Array, NetEstimator
from lincoln_fn.losses import Loss, softmax_cross_entropy
from lincoln_fn.shapes import LayerError

# By the losses' names, what a net's outputs are, read as log-probabilities of the classes.
_OF_ALL_CLASSES: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "softmax_cross_entropy": lambda logits: logits.log_softmax(1),
    "nll": lambda log_p: log_p,
    "cross_entropy": torch.log,
}
# Likewise, of losses that look at one output an example: that of the second of two classes.
_OF_SECOND_CLASS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "sigmoid_cross_entropy": lambda logit: torch.cat((logsigmoid(-logit), logsigmoid(logit)), 1),
    "log_sigmoid_loss": lambda log_p: torch.cat((torch.log(-torch.expm1(log_p)), log_p), 1),
    "log_loss": lambda p: torch.cat((torch.log1p(-p), torch.log(p)), 1),
}


# Rounding, of outputs in bfloat16 at that, is no more; what is left of it is divided away.
_SUM_TOLERANCE: Final = 0.1


def _loss_of(estimator: NetClassifier) -> Loss:
    loss = softmax_cross_entropy() if estimator.loss is None else estimator.loss
    check_kinds("NetClassifier", loss=(loss, Loss))
    return loss


def _has_one_output(loss: Loss) -> bool:
    return _kind(loss) in _OF_SECOND_CLASS


def _kind(loss: Loss) -> str:
    return loss.name.partition("(")[0]


def _log_probabilities(estimator: NetClassifier) -> Callable[[Tensor], Tensor]:
    """Give what reads outputs as log-probabilities, or raise what says that there is no method."""
    loss = _loss_of(estimator)
    known = {**_OF_ALL_CLASSES, **_OF_SECOND_CLASS}
    if _kind(loss) not in known:
        mend = f"a loss that does is one of {', '.join(known)}"
        raise AttributeError(f"NetClassifier: {loss} tells of no probabilities; {mend}")
    return known[_kind(loss)]


class NetClassifier(ClassifierMixin, NetEstimator):  # type: ignore[misc]  # no types
    """A classifier made of a network, a loss and an optimizer.

    Labels are of any kind that scikit-learn knows; the loss sees their places in `classes_`. The
    network computes in the dtype of X, float32 or float64, and in float64 for any other. It learns
    best from features of mean 0 and variance 1, so put a `StandardScaler` before it.

    A pickle of the estimator holds its functions as code, by cloudpickle, and loading one runs that
    code: load none from a stranger. `lf.checkpoint` saves `state_` in a file that holds no code.

    Args:
        net: the whole network, or a function that makes one of the number of its outputs, as
            `lambda n_out: lf.serial(lf.dense(50), lf.sigmoid(), lf.dense(n_out))`. It has an output
            for each class, or one where the loss looks at one. None takes a hidden layer of 100
            rectified units.
        loss: a loss on class indices. None takes `losses.softmax_cross_entropy()`, on logits.
        optimizer: None takes `optim.adam(0.003)`.
        epochs: how often `fit` goes through the examples.
        batch_size: examples a step.
        warm_start: whether `fit` goes on from the last parameters and optimizer's state.
        random_state: a number n makes the run that of `lf.fit` with `key=lf.Key(n)`; a numpy
            `RandomState` draws that number, and None draws it from numpy's own, as is usual in
            scikit-learn.
        verbose: whether the training's progress is shown.

    Attributes:
        classes_: the labels, sorted; in this order are columns of probabilities.
        net_: the network, with as many outputs as needed.
        state_: the `TrainState` that training ended with.
        history_: the last call's training history, a `FitRecord` for each epoch.
        n_features_in_: the number of features.
        feature_names_in_: their names, if X had any.

    Example:
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
        >>> NetClassifier(random_state=0).fit(X, y).predict([[0.5], [2.5]]).tolist()
        ['low', 'high']
    """

    classes_: Array

    def fit(self, X: ArrayLike, y: ArrayLike) -> NetClassifier:  # noqa: N803  # sklearn's name
        """Train the network.

        Args:
            X: features, of shape (examples, features).
            y: labels, of shape (examples,).

        Returns:
            The estimator itself.

        Raises:
            ValueError: if X, y or an argument of the estimator is not as it should be, or the
                network does not give an output for each class.
            TypeError: if X is sparse.
        """
        x, labels = self._checked(X, y, reset=True)
        classes = unique_labels(labels)
        goes_on = self._goes_on()
        if goes_on and not np.array_equal(classes, self.classes_):
            problem = f"expected the classes fitted before, {self.classes_}, to go on with"
            mend = "fit with warm_start=False to begin anew"
            raise ValueError(f"NetClassifier: {problem}, got {classes}; {mend}")
        return self._learn(x, labels, classes, epochs=self.epochs, goes_on=goes_on)

    def partial_fit(
        self,
        X: ArrayLike,  # noqa: N803  # sklearn's name
        y: ArrayLike,
        classes: ArrayLike | None = None,
    ) -> NetClassifier:
        """Train for one epoch on some of the examples, going on from what was learnt before.

        Args:
            X: features, of shape (examples, features).
            y: labels, of shape (examples,), not necessarily all of them.
            classes: all labels; needed in the first call.

        Returns:
            The estimator itself.

        Raises:
            ValueError: as `fit` does, if classes are missing in the first call or others in a
                later one, or if y has a label that is not among them.
            TypeError: if X is sparse.
        """
        goes_on = hasattr(self, "state_")
        if classes is None and not goes_on:
            raise ValueError("NetClassifier: expected classes in the first call of partial_fit")
        known = self.classes_ if classes is None else unique_labels(classes)
        if goes_on and not np.array_equal(known, self.classes_):
            problem = f"expected the classes of the first call, {self.classes_}"
            raise ValueError(f"NetClassifier: {problem}, got {known}")
        x, labels = self._checked(X, y, reset=not goes_on)
        return self._learn(x, labels, known, epochs=1, goes_on=goes_on)

    def predict(self, X: ArrayLike) -> Array:  # noqa: N803  # sklearn's name
        """Give the class with the highest output.

        Args:
            X: features, of shape (examples, features).

        Returns:
            Labels, of shape (examples,).

        Raises:
            NotFittedError: before `fit`.
            ValueError: if X is not as it should be.
        """
        outputs = self._outputs(X)
        if _has_one_output(_loss_of(self)):
            outputs = _log_probabilities(self)(outputs)
        labels: Array = self.classes_[outputs.argmax(1).numpy()]
        return labels

    @available_if(_log_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: ArrayLike) -> Array:  # noqa: N803  # sklearn's name
        """Give the logarithms of `predict_proba`, without its rounding to 0.

        Args:
            X: features, of shape (examples, features).

        Returns:
            Of shape (examples, classes), in float64.

        Raises:
            NotFittedError: before `fit`.
            ValueError: if X is not as it should be.
        """
        log_p = _log_probabilities(self)(self._outputs(X).double())
        sums = log_p.exp().sum(1)
        wrong = sums[~((sums - 1).abs() <= _SUM_TOLERANCE)]
        if len(wrong):
            loss = _loss_of(self)
            problem = f"expected a net whose outputs are what {loss} is for"
            got = f"probabilities that sum to {wrong[0].item():.3g}"
            raise LayerError("NetClassifier", f"{problem}, got {got}")
        array: Array = (log_p - sums.log()[:, None]).numpy()
        return array

    @available_if(_log_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ArrayLike) -> Array:  # noqa: N803  # sklearn's name
        """Give the probability of each class, where the loss tells what the outputs mean.

        Those losses are `softmax_cross_entropy`, `nll`, `cross_entropy`, and for two classes
        `sigmoid_cross_entropy`, `log_sigmoid_loss` and `log_loss`.

        Args:
            X: features, of shape (examples, features).

        Returns:
            Of shape (examples, classes), in float64.

        Raises:
            NotFittedError: before `fit`.
            ValueError: if X is not as it should be.
        """
        p: Array = np.exp(self.predict_log_proba(X))
        return p

    def _checked(
        self,
        X: Any,  # noqa: N803  # Any: of sklearn
        y: Any,
        *,
        reset: bool,
    ) -> tuple[Array, Array]:
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
