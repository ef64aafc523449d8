"""Networks as scikit-learn estimators, for `Pipeline`, `cross_val_score` and `GridSearchCV`.

    from lincoln_fn.estimators import NetClassifier, NetRegressor

Needs scikit-learn 1.6 or newer, which the extra `sklearn` installs; `import lincoln_fn` does not
load this package. An estimator is an object that `fit` changes, as scikit-learn requires. It is a
thin wrapper around `lf.fit`. The result of training is a frozen `TrainState` in its `state_`.

Estimators can be pickled, even with your own nets and lambdas: cloudpickle saves functions by their
code. A search over nets or optimizers also has them in its grid, outside of any estimator. So save
its `best_estimator_`, or save all of it by `cloudpickle.dump`.

Loading such a file runs the code in it, with all your rights: load one only from people whom you
trust. `lf.checkpoint.load` runs no code from the file.
"""

try:
    # Only to report a missing package.
    import cloudpickle  # noqa: F401
    import sklearn  # noqa: F401
except ModuleNotFoundError as error:
    mend = "pip install 'lincoln_fn[sklearn]'"
    raise ModuleNotFoundError(f"lincoln_fn.estimators: {error}; {mend}", name=error.name) from error

from lincoln_fn.estimators.networks import NetClassifier, NetRegressor

__all__ = ["NetClassifier", "NetRegressor"]
