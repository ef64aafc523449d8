"""Networks as scikit-learn estimators, for `Pipeline`, `cross_val_score` and `GridSearchCV`.

    from lincoln_fn.estimators import NetClassifier, NetRegressor

Needs scikit-learn 1.6 or newer, which the extra `sklearn` installs; `import lincoln_fn` does not
load this package. An estimator is what scikit-learn asks for, an object that `fit` changes. It is
a thin rim around `lf.fit`, and what it learns is a frozen `TrainState` in its `state_`.

Estimators can be pickled, with nets and lambdas of one's own too: cloudpickle saves functions by
their code. A search over nets or optimizers holds them in its grid as well, outside of any
estimator, so save its `best_estimator_`, or all of it by `cloudpickle.dump`.

Loading such a file runs code that the file holds: whoever wrote it can do anything that you can.
Load one only from those you trust to run code on your machine. A file from anybody else should be
a checkpoint: `lf.checkpoint.load` runs no code of the file's.
"""

try:
    # Only to say what is missing; neither has types.
    import cloudpickle  # type: ignore[import-untyped]  # noqa: F401
    import sklearn  # type: ignore[import-untyped]  # noqa: F401
except ModuleNotFoundError as error:
    mend = "pip install 'lincoln_fn[sklearn]'"
    raise ModuleNotFoundError(f"lincoln_fn.estimators: {error}; {mend}", name=error.name) from error

from lincoln_fn.estimators.classifier import NetClassifier
from lincoln_fn.estimators.regressor import NetRegressor

__all__ = ["NetClassifier", "NetRegressor"]
