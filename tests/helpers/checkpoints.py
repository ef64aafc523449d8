"""Small states in checkpoints, and the errors by which files are refused."""

import re

import pytest
import torch

import lincoln_fn as lf
from lincoln_fn.checkpoint import CheckpointError

PROBLEM = re.compile(
    r"(cannot be read as safetensors: .+"
    r"|is no checkpoint: it has no lincoln_fn in its metadata"
    r"|is damaged: its metadata (cannot be read|is not complete)"
    r"|is damaged: what it holds does not agree with its checksum(\n  .+)*"
    r"|is damaged: no tensor .* of shape .+ has the strides .+"
    r"|is damaged: .+ has a bool that is neither 0 nor 1"
    r"|expected version 1 of the format, got .+"
    r"|holds a TrainState, and is to be loaded as its params; .+"
    r"|does not fit what it is to be loaded as(\n  (.|\n)+)+)"
)


def refused(call, *arguments, **options):
    """Return the error by which a call refuses a file, or what is to be saved in one."""
    with pytest.raises(CheckpointError) as caught:
        call(*arguments, **options)
    return caught.value


def state_at(step):
    """Make a small state that is like no other step's."""
    return lf.TrainState((torch.full((2,), float(step)),), (), lf.Key(0), torch.tensor(step))


def name(step):
    """Name the file of a step."""
    return f"step_{step:09}.safetensors"


def blank(tree):
    """Make a tree of the same kind with other numbers."""
    return lf.tree.map(
        lambda leaf: torch.zeros_like(leaf) if isinstance(leaf, torch.Tensor) else leaf,
        tree,
        states=True,
    )
