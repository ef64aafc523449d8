"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil
import sys

import pytest
import torch

import lincoln_fn as lf

MODULES = ["lincoln_fn", *(m.name for m in pkgutil.walk_packages(lf.__path__, "lincoln_fn."))]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    importlib.import_module(name)
    # By its name in sys.modules: the package's attribute `train` is the function of that name.
    module = sys.modules[name]
    failed, _ = doctest.testmod(module, extraglobs={"torch": torch, "lf": lf})
    assert failed == 0
