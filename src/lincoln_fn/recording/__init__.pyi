from lincoln_fn.recording.by_kind import ByKind as ByKind, address as address
from lincoln_fn.recording.function import (
    Pure as Pure, RecordedFunction as RecordedFunction, recorded as recorded,
)
from lincoln_fn.recording.structures import (
    Layouts as Layouts, Structure as Structure, flatten as flatten, layouts as layouts,
    make_builder as make_builder, strides as strides,
)
