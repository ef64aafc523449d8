"""Checkpoints that cannot be loaded."""

import re

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
