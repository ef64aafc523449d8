from lincoln_fn.streams.by_score import best as best, early_stopping as early_stopping
from lincoln_fn.streams.evaluated import evaluated as evaluated
from lincoln_fn.streams.finite import finite as finite
from lincoln_fn.streams.logged import logged as logged
from lincoln_fn.streams.progress import progress as progress
from lincoln_fn.streams.stream import Stream as Stream
from lincoln_fn.streams.tensorboard import tensorboard as tensorboard
