"""A mutant takes the place of a function's own code, not of its decorators'."""

import importlib
import inspect

from helpers.mutation.code import PACKAGE
from helpers.mutation.trials import files_for


def test_the_own_functions_of_a_file_are_found():
    found = 0
    for folder in ("layers", "losses"):
        for path in sorted((PACKAGE / folder).glob("[!_]*.py")):
            module = importlib.import_module(f"lincoln_fn.{folder}.{path.stem}")
            for name in ("init", "forward", "backward"):
                if (function := getattr(module, name, None)) is None:
                    continue
                code = inspect.unwrap(function).__code__
                assert code.co_name == name
                assert not code.co_freevars
                found += "/layers/" in code.co_filename or "/losses/" in code.co_filename
    assert found > 150


def test_the_files_of_the_short_suite_are_tried():
    names = [file.rpartition("/")[2] for file in files_for(PACKAGE / "layers/gelu.py", False, True)]
    assert "test_layers.py" in names
