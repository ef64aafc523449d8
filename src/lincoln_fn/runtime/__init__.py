"""What belongs to the whole process: threads, memory, the log and the notebook. Not pure."""

from lincoln_fn.faces import face

face(__name__)
