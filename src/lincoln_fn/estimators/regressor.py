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
