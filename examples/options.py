"""Options that several examples read: a number of steps, and a file for the picture."""

from __future__ import annotations

import argparse
from pathlib import Path


def positive_int(text: str) -> int:
    """Read an option that counts something, such as `--steps`: an int of at least 1."""
    number = int(text)  # argparse tells of a ValueError
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


def picture_file(text: str) -> Path:
    """Read the option `--plot`, and refuse a picture that could not be saved after the training."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; name a file in it")
    # An ImportError is told before the training too. The examples run without matplotlib.
    import matplotlib.figure  # noqa: F401

    return path
