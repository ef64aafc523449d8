"""What all tests share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Keep torch to one thread, since the tests run in parallel."""
    torch.set_num_threads(1)
