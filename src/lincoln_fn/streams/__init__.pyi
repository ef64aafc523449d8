from lincoln_fn.streams.scores import (
    best as best, early_stopping as early_stopping, evaluated as evaluated, finite as finite,
)
from lincoln_fn.streams.logged import (
    logged as logged, progress as progress, tensorboard as tensorboard,
)
from lincoln_fn.streams.stream import Stream as Stream
