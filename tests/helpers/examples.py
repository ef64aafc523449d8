"""Runs of the examples."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.processes import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
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


def run_in_two_processes(script, *options):
    """Run an example by torchrun, and give what it prints."""
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    ran = subprocess.run(
        [sys.executable, *launch, "--master-port", str(free_port()), EXAMPLES / script, *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
