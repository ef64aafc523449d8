from lincoln_fn.replay.attribute import *
from lincoln_fn.replay.difference import (
    Difference as Difference, Origin as Origin, first_difference as first_difference,
    first_non_finite as first_non_finite,
)
from lincoln_fn.replay.metagradient import (
    Metagradient as Metagradient, metagradient as metagradient,
)
from lincoln_fn.replay.arrays import Place as Place
from lincoln_fn.replay.run import Run as Run
