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

from lincoln_fn.faces import face

face(__name__)
