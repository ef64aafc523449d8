"""What all tests share."""

import gc
import os
import warnings

import hypothesis
import pytest
import torch

from lincoln_fn.compiler import graphs
from lincoln_fn.compiler.inductor import compile_graph, disk_cache
from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.kernels.small_product import op as small_product

with warnings.catch_warnings():  # torch 2.9 warns once that another setting will come
    warnings.simplefilter("ignore")
    torch.get_float32_matmul_precision()

# The same examples on every run, and no verdict that depends on how busy the machine is.
hypothesis.settings.register_profile(
    "lincoln", derandomize=True, deadline=None, max_examples=20, print_blob=False
)
hypothesis.settings.load_profile("lincoln")

# Many graphs are compiled here, for which the headers are compiled once.
compile_graph._OPTIONS["cpp_cache_precompile_headers"] = True


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Keep what is collected, some 24,000 tests, out of every garbage collection."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)  # graphs are large, and few are part of a cycle


@pytest.fixture(autouse=True)
def threads():
    """Keep torch to one thread, since the tests run in parallel; `.ci/processors` asks for two."""
    torch.set_num_threads(int(os.environ.get("LINCOLN_FN_TEST_THREADS", "1")))


@pytest.fixture
def needs_vectors():
    """Skip where a compiled step has no loops in C++, for want of vectors."""
    if not lanes():
        pytest.skip("Inductor knows no vectors of this processor")


@pytest.fixture(autouse=True)
def no_notes(monkeypatch):
    """Have no compiled step found by a note on disk, which does not tell what a test patches."""
    monkeypatch.setattr(disk_cache, "note_on", lambda traced, donate: None)


@pytest.fixture
def uncompiled(monkeypatch):
    """Run each rewritten graph as it is, without Inductor, to test what surrounds it."""
    monkeypatch.setattr(small_product, "_MOST", 0)  # whose kernels would be built one by one
    monkeypatch.setattr(
        graphs, "by_inductor", lambda graph, inputs, *, small: lambda leaves: graph(*leaves)
    )
