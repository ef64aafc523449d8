"""The code of a page of the documentation, run as by a reader: in a process without a seed."""

import contextlib
import doctest
import io
import os
import re
import sys
import textwrap
import traceback
import types
import warnings
from concurrent.futures import ProcessPoolExecutor

import attrs
import numpy as np
import torch

from helpers.children import context
from helpers.printed import Checker, same_printed

BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<kind>python|pycon)\n(?P<code>.*?)^(?P=indent)```\n"
    r"(?:\n(?P=indent)```text\n(?P<output>.*?)^(?P=indent)```\n)?",
    flags=re.DOTALL | re.MULTILINE,
)


def run_program(code, names, where, output):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, where, "exec"), names)
    assert same_printed(said.getvalue(), output), f"prints {said.getvalue()}, not {output}"


def run_session(code, names, where):
    test = doctest.DocTestParser().get_doctest(code, {}, where, where, 0)
    test.globs = names
    # An older attrs says no more than the exception's name.
    is_told = str(attrs.exceptions.FrozenInstanceError())
    flags = doctest.ELLIPSIS | (0 if is_told else doctest.IGNORE_EXCEPTION_DETAIL)
    runner, told = doctest.DocTestRunner(Checker(), optionflags=flags), io.StringIO()
    runner.run(test, out=told.write, clear_globs=False)
    assert not runner.failures, told.getvalue()


def check_seed_before_draws():
    """Have torch.manual_seed look whether anything was drawn, and give a check for the end."""
    seed, began, seeds = torch.manual_seed, torch.get_rng_state(), []

    def check():
        assert seeds or torch.equal(torch.get_rng_state(), began), "torch draws without a seed"

    def checked_seed(number):
        check()
        seeds.append(number)
        return seed(number)

    torch.manual_seed = checked_seed
    return check


def run_page(page, folder):
    """Run all blocks of a page in turn; the process does nothing else."""
    os.chdir(folder)
    warnings.simplefilter("error")
    # torch itself calls what it has deprecated, at the first jvp of a process.
    warnings.filterwarnings("ignore", ".torch.jit.script")
    torch.set_num_threads(int(os.environ.get("LINCOLN_FN_TEST_THREADS", "1")))
    torch.seed()
    np.random.seed()  # noqa: NPY002  # the generator that a reader's process has, too
    check = check_seed_before_draws()
    # A module of its own, where decorators of classes look up names.
    module = sys.modules[f"page_{page.stem}"] = types.ModuleType(f"page_{page.stem}")
    try:
        for block in BLOCK.finditer(page.read_text()):
            code, output = (textwrap.dedent(block[part] or "") for part in ("code", "output"))
            if block["kind"] == "pycon":
                run_session(code, vars(module), str(page))
            else:
                run_program(code, vars(module), str(page), output)
        check()
    except Exception:  # which may be of the page's own class, that no other process knows
        raise AssertionError(traceback.format_exc()) from None


def run_in_fresh_process(page, folder):
    """Run a page in a copy of a process that has only imported the library."""
    folder.mkdir()
    with ProcessPoolExecutor(1, mp_context=context()) as process:
        process.submit(run_page, page, folder).result()
