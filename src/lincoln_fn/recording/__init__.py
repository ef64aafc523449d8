"""Recorded functions: Python runs them a few times, and from then on their operations alone run."""

from lincoln_fn.faces import face

face(__name__)
