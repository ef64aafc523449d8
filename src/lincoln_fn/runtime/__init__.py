"""What belongs to the whole process: threads, the log, torch's operations. Not pure."""

from lincoln_fn.faces import face

face(__name__)
