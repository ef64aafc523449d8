"""What all tests share."""

import hypothesis
import pytest
import torch

# The same examples on every run, and no verdict that depends on how busy the machine is.
hypothesis.settings.register_profile(
    "lincoln", derandomize=True, deadline=None, max_examples=20, print_blob=False
)
hypothesis.settings.load_profile("lincoln")


@pytest.fixture(autouse=True)
def one_thread():
    """Keep torch to one thread, since the tests run in parallel."""
    torch.set_num_threads(1)
