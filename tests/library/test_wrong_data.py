"""Data, metrics and streams that give nothing, or something else."""

import pandas as pd
import torch
from helpers.given import STATE, STEP, T, X, misuses

import lincoln_fn as lf
from lincoln_fn import StepRecord

PLAIN = [(STATE, StepRecord(1, 0.5)), (STATE, StepRecord(2, 0.4))]
FRAME, SERIES = pd.DataFrame(X.numpy()), pd.Series(T.numpy())
LOADER = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, T), batch_size=2)
SCORES = torch.tensor([[2.0], [-1.0], [3.0]])


def used_up():
    """Train two epochs over one generator."""
    given = (batch for batch in [(X, T)])
    state = STATE
    for epoch in range(2):
        for state, record in lf.train(STEP, state, given):
            pass


test_data_that_is_something_else_is_named = misuses("""
metrics.accuracy(SCORES, torch.tensor([1, 0, 1])) -> ^accuracy ... (N, C) ... (3, 1) ...
    binary_accuracy
metrics.accuracy(torch.eye(3), torch.eye(3).long()) -> ^accuracy ... (3,) ... (3, 3) ... argmax(1)
metrics.accuracy(torch.eye(3), torch.tensor([1, 2, 3])) -> ^accuracy ... from 0 to 2 ... 3
metrics.accuracy(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2])) -> ^accuracy ... (N, C) ... (3,)
metrics.accuracy(np.eye(3), np.arange(3)) -> ^accuracy ... prediction ... ndarray ...
    torch.as_tensor
metrics.binary_accuracy(SCORES, torch.tensor([1, -1, 1])) -> ^binary_accuracy ... 0 or 1 ... -1
fit(FRAME) -> ^fit ... (x, target) ... DataFrame
data.batches((pd.DataFrame({'age': [1.0, 2.0], 'city': ['a', 'b']}),), 2) -> ^batches: expected
    arrays[0] ... DataFrame of ... in column 'city' ... pandas.get_dummies
data.batches((pd.DataFrame({'age': [1.0, 2.0], 'old': [False, True]}),), 2) -> arrays[0] ... bool in
    column 'old' ... .astype('float32')
data.batches((X[:2], pd.Series(['a', 'b'])), 2) -> arrays[1] ... Series of ... pandas.factorize
init_state(NET, SGD, KEY, FRAME) -> ^init_state ... DataFrame ...
    torch.as_tensor(x.to_numpy('float32'))
make_step(NET, NLL, SGD)(STATE, (X, SERIES)) -> ^nll ... Series ... y.to_numpy()
fit(X) -> ^fit ... (x, target) ... float32[6, 3]
fit(LOADER.dataset) -> ^fit ... batch_size ... DataLoader(dataset, 2)
fit(None) -> ^fit ... batches ... None
fit(list(zip(X, T, strict=True)), batch_size=None) -> ^nll ... (4,)
fit([{'x': X, 'target': T}], batch_size=None) -> batch (x, target) ... dict
fit(data.map(lambda x, t: (x, t), iter([(X, T)])), epochs=2, batch_size=None) -> iterator
fit(epochs=1.5) -> epochs ... 1.5
fit(LOADER, batch_size=None, valid=(X, T), metric=metrics.accuracy) -> batch_size
used_up() -> ^train ... at least one batch ... used up
list(train(STEP, STATE, (X, T))) -> ^train ... [(x, target)]
list(train(STEP, STATE, X)) -> ^train ... an iterable of (x, target) ... float32[6, 3]
data.batches(X, 2) -> ^batches ... tuple ... (x,)
data.batches(X, T) -> ^batches ... batch_size ... int64[6]
data.batches((), 2) -> ^batches ... at least one array
data.batches((X, T), 2, start=STATE) -> ^batches ... start
data.batches((X, T), 2).at(-1) -> ^batches ... -1
data.map(LOADER, lambda x, t: (x, t)) -> ^map ... f ... DataLoader
evaluate(NET, PARAMS, [(X, T)], {}) -> ^evaluate ... metric
evaluate(NET, PARAMS, [(X, T)], {'right': lambda p, t: p.argmax(1) == t}) -> ^evaluate ... one
    number ... right
evaluate(NET, PARAMS, [((), T)], ACCURACY) -> dense(4) ... x to be a tensor
list(streams.early_stopping(PLAIN, 'loss', patience=1, mode='min')) -> ^early_stopping ... 'loss'
    ... evaluated
list(streams.early_stopping(PLAIN, metrics.accuracy, patience=1)) -> ^early_stopping ... metric ...
    name
streams.evaluated(PLAIN, NET, iter([(X, T)]), ACCURACY, every=1) -> ^evaluated ... iterator
list(streams.evaluated(PLAIN, NET, (X, T), ACCURACY, every=1)) -> [(x, target)]
""")
