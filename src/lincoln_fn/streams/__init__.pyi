from lincoln_fn.streams.scores import *
from lincoln_fn.streams.logged import *
from lincoln_fn.streams.stream import Stream as Stream
