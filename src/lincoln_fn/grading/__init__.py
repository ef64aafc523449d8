"""Grades of layers that somebody else has written, files of courses, and assignments.

It stands on the checks of `lincoln_fn.testing`, where users find its names.
"""

from lincoln_fn.faces import face

face(__name__)
