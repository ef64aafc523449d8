"""Every example in a docstring runs."""

import doctest
import importlib
import linecache
import sys
from pathlib import Path

import pytest
import torch
from helpers.printed import Checker

import lincoln_fn as lf
from lincoln_fn.compiler.inductor.settings import IS_KNOWN

# JAX, which the tests of the benchmarks import, warns of every fork from then on.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

SOURCE = Path(lf.__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(SOURCE.rglob("lincoln_fn/**/*.py"))
    if ">>>" in path.read_text()
]


# What they import, a torch may lack with which they have not been tried.
UNTRIED = () if IS_KNOWN else ("in_place", "lowering")


@pytest.mark.whole
@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(UNTRIED)])
def test_docstring_examples_run(name, monkeypatch):
    # Else doctest's debugger asks the disk after every file that has been seen, for each docstring.
    monkeypatch.setattr(linecache, "checkcache", lambda filename=None: None)
    importlib.import_module(name)
    # By its name in sys.modules: the package's attribute `train` is the function of that name.
    module = sys.modules[name]
    runner = doctest.DocTestRunner(checker=Checker())
    for test in doctest.DocTestFinder().find(module, extraglobs={"torch": torch, "lf": lf}):
        runner.run(test)
    assert runner.failures == 0
