from lincoln_fn.optim import transforms as transforms
from lincoln_fn.optim.accumulate import is_waiting as is_waiting
from lincoln_fn.optim.leafwise import At as At, Leafwise as Leafwise
from lincoln_fn.optim.leaves import Lists as Lists
from lincoln_fn.optim.pieces import Pieces as Pieces, split_clip as split_clip
from lincoln_fn.optim.sharded import (
    cut as cut, join as join, slice_rows as slice_rows, spans as spans, split_row as split_row,
)
from lincoln_fn.optim.transforms import clip as clip
