"""Checkpoints: a state in a file that is whole or not there, and a directory of such files.

    save(path, state)
    state = load(path, like)

A file holds the tensors as safetensors; its metadata holds the rest as JSON: the version of the
format, the kinds of the records and what is not a tensor, a SHA-256 of it all. Nothing is pickled,
so that loading runs no code of the file's.
"""

from __future__ import annotations

from lincoln_fn.checkpoint.directory import Directory, every
from lincoln_fn.checkpoint.file import VERSION, CheckpointError, load, save

__all__ = ["VERSION", "CheckpointError", "Directory", "every", "load", "save"]
