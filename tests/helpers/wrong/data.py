"""Data, metrics and streams that give nothing, or something else."""

import numpy as np
import pandas as pd
import torch

import lincoln_fn as lf
from helpers.wrong.given import ACCURACY, KEY, NET, NLL, PARAMS, SGD, STATE, STEP, T, X, fit
from lincoln_fn import StepRecord, metrics, streams
from lincoln_fn.training.data import batches

PLAIN = [(STATE, StepRecord(1, 0.5)), (STATE, StepRecord(2, 0.4))]
FRAME, SERIES = pd.DataFrame(X.numpy()), pd.Series(T.numpy())
LOADER = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, T), batch_size=2)
LOGITS = torch.tensor([[2.0], [-1.0], [3.0]])


def used_up():
    """Train two epochs over one generator."""
    given = (batch for batch in [(X, T)])
    state = STATE
    for epoch in range(2):
        for state, record in lf.train(STEP, state, given):
            pass


ROWS = {
    "accuracy: one column": (lambda: metrics.accuracy(LOGITS, torch.tensor([1, 0, 1])), "accuracy",
        "(N, C)", "(3, 1)", "binary_accuracy"),
    "accuracy: one column in evaluate": (
        lambda: lf.evaluate(lf.dense(1), lf.dense(1).init(KEY, X), [(X, T % 2)], ACCURACY),
        "accuracy", "binary_accuracy"),
    "accuracy: one column in fit": (lambda: fit(net=lf.dense(1),
            loss=lf.losses.sigmoid_cross_entropy(), data=(X, T % 2), valid=(X, T % 2),
            metric=metrics.accuracy), "accuracy", "binary_accuracy"),
    "accuracy: one-hot labels": (lambda: metrics.accuracy(torch.eye(3), torch.eye(3).long()),
        "accuracy", "(3,)", "(3, 3)", "argmax(1)"),
    "accuracy: float labels": (
        lambda: metrics.accuracy(torch.eye(3), torch.tensor([0.0, 1.0, 2.0])), "accuracy",
        "class indices", "torch.float32"),
    "accuracy: labels from 1": (lambda: metrics.accuracy(torch.eye(3), torch.tensor([1, 2, 3])),
        "accuracy", "from 0 to 2", "3"),
    "accuracy: swapped": (lambda: metrics.accuracy(torch.tensor([0, 1, 2]), torch.eye(3)),
        "accuracy", "prediction", "(3,)"),
    "accuracy: predicted classes": (
        lambda: metrics.accuracy(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2])), "accuracy",
        "(N, C)", "(3,)"),
    "accuracy: numpy arrays": (lambda: metrics.accuracy(np.eye(3), np.arange(3)), "accuracy",
        "prediction", "ndarray", "torch.as_tensor"),
    "accuracy: no examples": (lambda: metrics.accuracy(torch.zeros(0, 3), torch.zeros(0).long()),
        "accuracy", "at least one example"),
    "binary_accuracy: labels -1 and 1": (
        lambda: metrics.binary_accuracy(LOGITS, torch.tensor([1, -1, 1])), "binary_accuracy",
        "0 or 1", "-1"),
    "binary_accuracy: soft labels": (
        lambda: metrics.binary_accuracy(LOGITS, torch.tensor([0.9, 0.1, 0.8])), "binary_accuracy",
        "0 or 1"),
    "binary_accuracy: numpy arrays": (
        lambda: metrics.binary_accuracy(LOGITS.numpy(), np.array([1, 0, 1])), "binary_accuracy",
        "ndarray"),
    "fit: a DataFrame's columns as batches": (lambda: fit(FRAME), "fit", "DataFrame",
        "(x, target)"),
    "fit: a DataFrame in float64 for nothing": (lambda: fit((FRAME, ["a"] * 6)), "arrays[1]",
        "numbers"),
    "fit: a DataFrame of words": (lambda: fit((pd.DataFrame({"a": ["b"] * 6}), SERIES)), "batches",
        "arrays[0]", "numbers", "DataFrame"),
    "batches: a column of text": (
        lambda: batches((pd.DataFrame({"age": [1.0, 2.0], "city": ["a", "b"]}),), 2),
        "batches: expected arrays[0]", "DataFrame of", "in column 'city'", "pandas.get_dummies"),
    "batches: a column of bools beside numbers": (
        lambda: batches((pd.DataFrame({"age": [1.0, 2.0], "old": [False, True]}),), 2), "arrays[0]",
        "bool in column 'old'", ".astype('float32')"),
    "batches: labels of text": (lambda: batches((X[:2], pd.Series(["a", "b"])), 2), "arrays[1]",
        "Series of", "pandas.factorize"),
    "init_state: a DataFrame": (lambda: lf.init_state(NET, SGD, KEY, FRAME), "init_state",
        "DataFrame", "torch.as_tensor(x.to_numpy('float32'))"),
    "step: a Series of labels": (lambda: lf.make_step(NET, NLL, SGD)(STATE, (X, SERIES)), "nll",
        "Series", "y.to_numpy()"),
    "fit: a tensor": (lambda: fit(X), "fit", "(x, target)", "float32[6, 3]"),
    "fit: x alone in a tuple": (lambda: fit((X,)), "fit", "(x, target)", "1"),
    "fit: x, target and weights": (lambda: fit((X, T, T)), "fit", "(x, target)", "3"),
    "fit: a Dataset": (lambda: fit(LOADER.dataset), "fit", "batch_size", "DataLoader(dataset, 2)"),
    "fit: None": (lambda: fit(None), "fit", "batches", "None"),
    "fit: a list of examples": (lambda: fit(list(zip(X, T, strict=True)), batch_size=None), "nll",
        "(4,)"),
    "fit: lists of numbers": (lambda: fit((X.tolist(), ["a"] * 6)), "arrays[1]", "numbers"),
    "fit: batches of x alone": (lambda: fit([X, X], batch_size=None), "fit", "(x, target)"),
    "fit: batches of three": (lambda: fit([(X, T, T)], batch_size=None), "batch (x, target)",
        "int64[6])"),
    "fit: batches as dicts": (lambda: fit([{"x": X, "target": T}], batch_size=None),
        "batch (x, target)", "dict"),
    "fit: a generator's function": (lambda: fit(lambda: iter([(X, T)])), "fit", "batches",
        "function"),
    "fit: a map over a generator": (
        lambda: fit(lf.data.map(lambda x, t: (x, t), iter([(X, T)])), epochs=2, batch_size=None),
        "iterator"),
    "fit: batch_size in float": (lambda: fit(batch_size=2.5), "batch_size", "2.5"),
    "fit: epochs in float": (lambda: fit(epochs=1.5), "epochs", "1.5"),
    "fit: every in float": (lambda: fit(every=1.5), "every", "1.5"),
    "fit: valid without a batch size": (
        lambda: fit(LOADER, batch_size=None, valid=(X, T), metric=metrics.accuracy), "batch_size"),
    "fit: valid as a generator": (lambda: fit(valid=iter([(X, T)]), metric=metrics.accuracy),
        "iterator"),
    "train: a generator that is used up": (used_up, "train", "at least one batch", "used up"),
    "train: one batch for batches": (lambda: list(lf.train(STEP, STATE, (X, T))), "train",
        "[(x, target)]"),
    "train: a tensor": (lambda: list(lf.train(STEP, STATE, X)), "train",
        "an iterable of (x, target)", "float32[6, 3]"),
    "train: a number": (lambda: list(lf.train(STEP, STATE, 3)), "train", "batches", "3"),
    "train: a function": (lambda: list(lf.train(STEP, STATE, lambda: [(X, T)])), "train", "batches",
        "function"),
    "batches: X without a tuple": (lambda: batches(X, 2), "batches", "tuple", "(x,)"),
    "batches: X, T and no tuple": (lambda: batches(X, T), "batches", "batch_size", "int64[6]"),
    "batches: a numpy array": (lambda: batches(X.numpy(), 2), "batches", "tuple", "ndarray",
        "(x,)"),
    "batches: an empty tuple": (lambda: batches((), 2), "batches", "at least one array"),
    "batches: a size in float": (lambda: batches((X, T), 2.5), "batches", "batch_size", "2.5"),
    "batches: an int for a key": (lambda: batches((X, T), 2, key=0), "batches", "key", "lf.Key(0)"),
    "batches: a state for start": (lambda: batches((X, T), 2, start=STATE), "batches", "start"),
    "batches: words": (lambda: batches((X, np.array(["a"] * 6)), 2), "batches", "numbers"),
    "batches: None": (lambda: batches((X, None), 2), "batches", "None"),
    "batches: a batch after the last": (lambda: batches((X, T), 2).at(-1), "batches", "-1"),
    "map: swapped": (lambda: lf.data.map(LOADER, lambda x, t: (x, t)), "map", "f", "DataLoader"),
    "evaluate: arrays": (lambda: lf.evaluate(NET, PARAMS, (X, T), ACCURACY), "evaluate",
        "[(x, target)]"),
    "evaluate: no metrics": (lambda: lf.evaluate(NET, PARAMS, [(X, T)], {}), "evaluate", "metric"),
    "evaluate: batches of x alone": (lambda: lf.evaluate(NET, PARAMS, [X], ACCURACY), "evaluate",
        "batch (x, target)"),
    "evaluate: a metric of each example": (
        lambda: lf.evaluate(NET, PARAMS, [(X, T)], {"right": lambda p, t: p.argmax(1) == t}),
        "evaluate", "right", "one number"),
    "evaluate: x without examples": (lambda: lf.evaluate(NET, PARAMS, [((), T)], ACCURACY),
        "dense(4)", "x to be a tensor"),
    "early_stopping: the loss": (
        lambda: list(streams.early_stopping(PLAIN, "loss", patience=1, mode="min")),
        "early_stopping", "'loss'", "evaluated"),
    "early_stopping: a metric": (
        lambda: list(streams.early_stopping(PLAIN, metrics.accuracy, patience=1)), "early_stopping",
        "metric", "name"),
    "early_stopping: patience in float": (
        lambda: list(streams.early_stopping(PLAIN, "a", patience=1.5)), "early_stopping",
        "patience", "1.5"),
    "evaluated: an iterator": (
        lambda: streams.evaluated(PLAIN, NET, iter([(X, T)]), ACCURACY, every=1), "evaluated",
        "iterator"),
    "evaluated: arrays": (lambda: list(streams.evaluated(PLAIN, NET, (X, T), ACCURACY, every=1)),
        "[(x, target)]"),
    "evaluated: every in float": (
        lambda: streams.evaluated(PLAIN, NET, [(X, T)], ACCURACY, every=1.5), "evaluated", "every",
        "1.5"),
}  # fmt: skip
