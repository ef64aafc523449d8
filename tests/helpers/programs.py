"""The program of a function, as the recorder notes it."""

from lincoln_fn.recording.recorder import Recorder
from lincoln_fn.recording.surroundings import Showing


def program_of(function, *inputs, donated=0):
    """Run a function that returns a tuple of tensors, and give its program."""
    recorder = Recorder(inputs, donated)
    with recorder, Showing(recorder.refuse):
        outputs = function(*inputs)
    program = recorder.program([*outputs])
    assert recorder.problem is None
    return program
