"""What both estimators share: their parameters, training, outputs, and how they are pickled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import cloudpickle
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from lincoln_fn import core
from lincoln_fn.combine import serial
from lincoln_fn.core import Key, Layer, check_argument, unexpected, wrong_kind
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.relu import relu
from lincoln_fn.losses import Loss
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
