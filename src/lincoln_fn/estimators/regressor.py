"""A network that predicts numbers, as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin

from lincoln_fn.estimators.base import Array, NetEstimator
from lincoln_fn.losses import mse


class NetRegressor(RegressorMixin, NetEstimator):  # type: ignore[misc]  # no types
    """A regressor made of a network, a loss and an optimizer.

    The network computes in the dtype of X, float32 or float64, and in float64 for any other. It
    learns best from features and targets of mean 0 and variance 1: put a `StandardScaler` before
    it, and a `TransformedTargetRegressor` around it.

    A pickle of the estimator contains its functions as code, by cloudpickle, and loading it runs
    that code: do not load one from a stranger. `lf.checkpoint` saves `state_` in a file without
    code.

    Args:
        net: the whole network, or a function from the number of outputs to the network, such as
            `lambda n_out: lf.serial(lf.dense(50), lf.sigmoid(), lf.dense(n_out))`. It has an output
            for each target. None gives a hidden layer of 100 units with ReLU.
        loss: a loss on numbers, such as `losses.huber()`. None is `losses.mse()`.
        optimizer: None is `optim.adam(0.003)`.
        epochs: how often `fit` goes through the examples.
        batch_size: examples per step.
        warm_start: whether `fit` continues from the last parameters and optimizer's state.
        random_state: a number n gives the run of `lf.fit` with `key=lf.Key(n)`. A numpy
            `RandomState` draws that number; None draws it from numpy's global generator, as is
            usual in scikit-learn.
        verbose: whether to show the progress of training.

    Attributes:
        net_: the network, with as many outputs as needed.
        state_: the last `TrainState` of the training.
        history_: the training history of the last call, a `FitRecord` for each epoch.
        n_features_in_: the number of features.
        feature_names_in_: their names, if X had any.

    Example:
        >>> X, y = [[-1.0], [0.0], [1.0]], [2.0, 1.0, 2.0]
        >>> regressor = NetRegressor(optimizer=lf.optim.adam(0.03), random_state=0)
        >>> regressor.fit(X, y).predict(X).round(1).tolist()
        [2.0, 1.0, 2.0]
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> NetRegressor:
        """Train the network.

        Args:
            X: features, of shape (examples, features).
            y: targets, of shape (examples,) or (examples, targets).

        Returns:
            The estimator itself.

        Raises:
            ValueError: if X, y or an argument of the estimator is not valid, or the network does
                not have an output for each target.
            TypeError: if X is sparse.
        """
        return self._learn(X, y, epochs=self.epochs, goes_on=self._goes_on())

    def partial_fit(self, X: ArrayLike, y: ArrayLike) -> NetRegressor:
        """Train for one epoch on some of the examples, from the current parameters on.

        Args:
            X: features, of shape (examples, features).
            y: targets, of shape (examples,) or (examples, targets).

        Returns:
            The estimator itself.

        Raises:
            ValueError: as `fit` does.
            TypeError: if X is sparse.
        """
        return self._learn(X, y, epochs=1, goes_on=hasattr(self, "state_"))

    def predict(self, X: ArrayLike) -> Array:
        """Give the network's outputs.

        Args:
            X: features, of shape (examples, features).

        Returns:
            Of y's shape in `fit`, in the dtype of `fit`.

        Raises:
            NotFittedError: before `fit`.
            ValueError: if X is not valid.
        """
        outputs: Array = self._outputs(X).numpy()
        return outputs.squeeze(1) if self._one_target else outputs

    def __sklearn_tags__(self) -> Any:  # Any: of sklearn
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    # Any: of sklearn
    def _learn(self, X: Any, y: Any, *, epochs: int, goes_on: bool) -> NetRegressor:
        # What was fitted before stays, its number of features too, if this X is refused.
        kind = {"multi_output": True, "y_numeric": True}
        x, given = self._features(X, y=y, reset=not goes_on, **kind)
        target = np.array(given.reshape(len(given), -1), dtype=x.dtype)
        loss = mse() if self.loss is None else self.loss
        self._train(x, target, target.shape[1], loss, epochs=epochs, goes_on=goes_on)
        self._one_target = given.ndim == 1
        return self
