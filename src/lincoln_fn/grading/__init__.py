"""Grades of layers that somebody else has written, files of courses, and assignments."""

from lincoln_fn.faces import face

face(__name__)
