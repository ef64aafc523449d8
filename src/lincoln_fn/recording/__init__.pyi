from lincoln_fn.recording.by_kind import (
    ByKind as ByKind, Structure as Structure, flatten as flatten, make_builder as make_builder,
)
from lincoln_fn.recording.conditions import (
    address as address, layouts as layouts, strides as strides,
)
from lincoln_fn.recording.function import (
    Pure as Pure, RecordedFunction as RecordedFunction, recorded as recorded,
)
