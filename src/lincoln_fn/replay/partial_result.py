"""What a walk back over a run has found so far, in memory and in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from lincoln_fn import checkpoint
from lincoln_fn.core import LayerError, record
from lincoln_fn.replay.step_adjoint import Bars


@record
class Partial:
    """What was found after the steps from the last one to that after `step`.

    Its tensors of derivatives, which are summed up, are changed in place.
    """

    step: Tensor
    value: Tensor
    bars: Bars
    hyperparameters: Mapping[str, Tensor]
    examples: Any  # a tensor, or one for each step, or None
    x: Any  # likewise, of trees


@attrs.frozen(eq=False)
class Saved:
    """The file in which the derivatives found so far are saved."""

    folder: Path
    seconds: float
    identity: Tensor

    @property
    def file(self) -> Path:
        """The file's path."""
        return self.folder / "metagradient.safetensors"

    def load(self, like: Partial) -> Partial | None:
        """Load what was saved; None if there is nothing."""
        if not self.file.exists():
            return None
        problem = f"expected {self.file} of the same run; delete it, or give another folder"
        error = LayerError("metagradient", problem)
        try:
            identity, saved = checkpoint.load(self.file, (self.identity, like))
        except checkpoint.CheckpointError as cause:
            raise error from cause
        if int(identity) != int(self.identity):
            raise error
        return saved

    def save(self, found: Partial) -> None:
        """Replace the file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(self.file, (self.identity, found))

    def delete(self) -> None:
        """Delete the file, if there is one."""
        self.file.unlink(missing_ok=True)
