from lincoln_fn.recording.function import recorded as recorded
from lincoln_fn.recording.kinds import address as address
from lincoln_fn.recording.step import RecordedStep as RecordedStep, StepsByKind as StepsByKind
from lincoln_fn.recording.structures import (
    Layouts as Layouts, Structure as Structure, flatten as flatten, layouts as layouts,
    make_builder as make_builder, strides as strides,
)
