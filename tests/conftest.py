"""What all tests share."""

import gc
import logging
import os
import warnings

import pytest
import short_suite

# Their assertions tell what they compared, as those of the tests do.
pytest.register_assert_rewrite(
    *("helpers.compiling", "helpers.compositions", "helpers.copies"),
    *("helpers.graphs", "helpers.kernels_together", "helpers.one_by_one", "helpers.pipelines"),
    *("helpers.parity", "helpers.reals", "helpers.refusals", "helpers.replays", "helpers.steps"),
)


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run every test, and not the short suite")


def pytest_configure(config):
    config.addinivalue_line("markers", "full(but): too dear for the short suite, but these rows")
    config.addinivalue_line("markers", "whole: the short suite has every row, too")


def is_short(config):
    """Whether the short suite runs: a file that is named on the command line runs whole."""
    return not config.option.full and config.args_source is config.ArgsSource.TESTPATHS


def pytest_ignore_collect(collection_path, config):
    return True if is_short(config) and short_suite.leaves_out(collection_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    if config.args_source is config.ArgsSource.TESTPATHS:
        short_suite.check(items)
    kept, left_out = short_suite.divided(items)
    for item in left_out:
        item.add_marker("full")
    if is_short(config):
        items[:] = kept
        config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter, config):
    if is_short(config):
        terminalreporter.write_line("This was the short suite; `pytest --full` runs every test.")


def prepare(config):
    """Import what many tests use, and set it for all."""
    import perturbed  # before anything is computed, if it is asked for

    # isort: split
    import hypothesis
    import torch

    from lincoln_fn.compiler.inductor import compile_graph
    from lincoln_fn.testing import lines

    # What it does within an operation is no line of a backward.
    lines._NOT_OURS += (perturbed.__file__,)
    logging.root.addHandler(logging.NullHandler())  # else a slow machine's warnings are in stderr
    with warnings.catch_warnings():  # torch 2.9 warns once that another setting will come
        warnings.simplefilter("ignore")
        torch.get_float32_matmul_precision()
    # The same examples on every run, and no verdict that depends on how busy the machine is.
    hypothesis.settings.register_profile(
        "lincoln", derandomize=True, deadline=None, max_examples=20, print_blob=False
    )
    hypothesis.settings.load_profile("lincoln")
    # Headers that are compiled once pay for the many graphs of the full suite, and for no others.
    compile_graph._OPTIONS["cpp_cache_precompile_headers"] = not is_short(config)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Keep what is collected out of every garbage collection."""
    if session.config.getoption("dist", "no") != "no":
        return (yield)  # the process that hands the tests out uses nothing of the library
    prepare(session.config)
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)  # graphs are large, and few are part of a cycle
    from lincoln_fn.compiler.inductor import disk_cache

    # No compiled step is found by a note on disk, which does not tell what a test patches.
    disk_cache.note_on = lambda traced, donate: None
    return result


def pytest_runtest_setup():
    """Keep torch to one thread, since the tests run in parallel; `.ci/processors` asks for two."""
    import torch

    torch.set_num_threads(int(os.environ.get("LINCOLN_FN_TEST_THREADS", "1")))


@pytest.fixture
def logged(monkeypatch):
    """Give the messages that are logged: the library's from INFO on, others' from WARNING on."""
    messages, handler, library = [], logging.Handler(), logging.getLogger("lincoln_fn")
    handler.emit = lambda record: messages.append(record.getMessage())
    monkeypatch.setattr(logging.root, "handlers", [handler])
    level = library.level
    library.setLevel(logging.INFO)
    yield messages
    library.setLevel(level)


@pytest.fixture
def precision():
    """Give what sets the precision of products of float32 until the test ends."""
    import torch

    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def needs_vectors():
    """Skip where a compiled step has no loops in C++, for want of vectors."""
    from lincoln_fn.compiler.inductor.settings import lanes

    if not lanes():
        pytest.skip("Inductor knows no vectors of this processor")


@pytest.fixture
def uncompiled(monkeypatch):
    """Run each rewritten graph as it is, without Inductor, to test what surrounds it."""
    from lincoln_fn.compiler import graphs
    from lincoln_fn.compiler.passes import products

    monkeypatch.setattr(products, "_MOST", 0)  # whose kernels would be built one by one
    monkeypatch.setattr(graphs, "by_inductor", lambda graph, inputs: lambda leaves: graph(*leaves))
