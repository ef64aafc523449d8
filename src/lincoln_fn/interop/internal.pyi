from lincoln_fn.interop.architectures.family import option_problems as option_problems
from lincoln_fn.interop.pretrained import (
    Model as Model, fitting as fitting, model_of as model_of, names_in as names_in,
    refuse as refuse, unfrozen as unfrozen,
)
from lincoln_fn.interop.names import BLOCKS as BLOCKS
from lincoln_fn.interop.slots import Slot as Slot, by_path as by_path, expected as expected
from lincoln_fn.interop.stored import (
    opened as opened, read_json as read_json, write_file as write_file, write_json as write_json,
)
