"""Checkpoints: a state in a file that is complete or absent, and a directory of such files.

    save(path, state)
    state = load(path, like)

A file holds the tensors as safetensors; its metadata holds the rest as JSON: the version of the
format, the kinds of the records, the values that are not tensors, and a SHA-256 of everything.
Nothing is pickled, so loading never runs code from the file.
"""

from lincoln_fn.faces import face

face(__name__)
