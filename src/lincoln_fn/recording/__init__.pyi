from lincoln_fn.recording.by_kind import ByKind as ByKind
from lincoln_fn.recording.function import (
    RecordedFunction as RecordedFunction, recorded as recorded,
)
from lincoln_fn.recording.guards import address as address
from lincoln_fn.recording.one_kind import Pure as Pure
from lincoln_fn.recording.structures import (
    Layouts as Layouts, Structure as Structure, flatten as flatten, layouts as layouts,
    make_builder as make_builder, strides as strides,
)
