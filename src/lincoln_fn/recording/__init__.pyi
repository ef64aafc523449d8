from lincoln_fn.recording.by_kind import (
    ByKind as ByKind, Structure as Structure, address as address, flatten as flatten,
    make_builder as make_builder, strides as strides,
)
from lincoln_fn.recording.function import (
    Pure as Pure, RecordedFunction as RecordedFunction, recorded as recorded,
)
