"""Recorded functions: Python runs them a few times, and from then on their operations alone run.

For writers of rooms: `recorded` makes such a function of a pure one, and `RecordedStep` of a step.
"""

from lincoln_fn.recording.function import recorded as recorded
from lincoln_fn.recording.step import RecordedStep as RecordedStep
