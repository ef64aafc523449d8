"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil
import sys

import pytest
import torch

import lincoln_fn as lf
from lincoln_fn.compiler.inductor.versions import IS_KNOWN

# JAX, which the tests of the benchmarks import, warns of every fork from then on.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

MODULES = ["lincoln_fn", *(m.name for m in pkgutil.walk_packages(lf.__path__, "lincoln_fn."))]


# What they import, a torch may lack with which they have not been tried.
UNTRIED = () if IS_KNOWN else ("in_place", "lowering")


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(UNTRIED)])
def test_docstring_examples_run(name):
    importlib.import_module(name)
    # By its name in sys.modules: the package's attribute `train` is the function of that name.
    module = sys.modules[name]
    failed, _ = doctest.testmod(module, extraglobs={"torch": torch, "lf": lf})
    assert failed == 0
