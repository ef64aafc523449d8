"""Streams: instead of callbacks, generators that wrap `train`, and compose.

    steps = lf.train(step, state, batches)
    steps = evaluated(steps, net, valid, {"accuracy": lf.metrics.accuracy}, every=100)
    steps = early_stopping(steps, "accuracy", patience=5)
    steps = logged(progress(steps, total=len(batches)), "runs/digits.csv")
    state, record = best(steps, "accuracy")

Each takes a stream of (state, record) and returns one, with the same states. A step is taken when
the caller requests it: stop iterating and the run stops. `checkpoint.every` is a stream, too.

Order matters if one stream needs another: `early_stopping` goes around `evaluated`, whose scores it
reads, and `checkpoint.every` goes around `early_stopping`, to save the state at which that stops,
and around `logged`, whose row of a step is written before the state is saved.
"""

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.streams.best import best as best
from lincoln_fn.streams.early_stopping import early_stopping as early_stopping
from lincoln_fn.streams.evaluated import evaluated as evaluated
from lincoln_fn.streams.finite import finite as finite
from lincoln_fn.streams.logged import logged as logged
from lincoln_fn.streams.progress import progress as progress
from lincoln_fn.streams.stream import Stream as Stream
from lincoln_fn.streams.tensorboard import tensorboard as tensorboard

_export_all(globals())
