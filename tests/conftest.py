"""What all tests share."""

import hypothesis
import pytest
import torch

from lincoln_fn.compiled import on_disk
from lincoln_fn.compiled.loops import lanes

# The same examples on every run, and no verdict that depends on how busy the machine is.
hypothesis.settings.register_profile(
    "lincoln", derandomize=True, deadline=None, max_examples=20, print_blob=False
)
hypothesis.settings.load_profile("lincoln")


@pytest.fixture(autouse=True)
def one_thread():
    """Keep torch to one thread, since the tests run in parallel."""
    torch.set_num_threads(1)


@pytest.fixture
def needs_vectors():
    """Skip where a compiled step has no loops in C++, for want of vectors."""
    if not lanes():
        pytest.skip("Inductor knows no vectors of this processor")


@pytest.fixture(autouse=True)
def no_notes(monkeypatch):
    """Have no compiled step found by a note on disk, which does not tell what a test patches."""
    monkeypatch.setattr(on_disk, "note_on", lambda traced, donate: None)
