"""Runs of the examples."""

import os
import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MNIST_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)  # fmt: skip
needs_mnist = pytest.mark.skipif(
    not os.environ.get("LINCOLN_FN_DATA")
    or any(
        not Path(os.environ["LINCOLN_FN_DATA"], "MNIST", "raw", name).is_file()
        for name in MNIST_FILES
    ),
    reason="LINCOLN_FN_DATA names no folder with the MNIST files",
)


def table(lines):
    """Read the lines that begin with an epoch as numbers."""
    return [
        [float(number) for number in re.findall(r"[\d.]+", line)]
        for line in lines
        if re.match(r" *\d|epoch \d", line)
    ]
