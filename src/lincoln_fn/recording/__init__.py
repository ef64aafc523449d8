"""Recorded functions: Python runs them a few times, and from then on their operations alone run."""

from lincoln_fn.recording.function import recorded as recorded
