"""The trials: tests run on the code as it is and on a mutant, in processes of their own."""

import contextlib
import functools
import importlib.abc
import importlib.util
import inspect
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType

import attrs
import pytest
from _pytest.main import pytest_runtestloop as runtestloop

from mutation.code import PACKAGE, Module
from mutation.mistakes import Mutant

TESTS = Path(__file__).resolve().parents[1]
TABLES = {
    "layers": ("test_layers.py",),
    "losses": ("test_losses_table.py", "test_losses.py", "test_losses_edges.py"),
}
OPTIONS = (
    *("-x", "-q", "--tb=no", "--assert=plain", "-o", "addopts="),
    *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler"),
)
GENERAL = ("test_formulas.py", "test_laws.py", "test_numerics.py")


def in_fork(trial: Callable[[], int], timeout: int) -> int:
    """Run a function in a process of its own, silently, and give its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        signal.alarm(timeout)  # ends the process
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os._exit(trial())
    finally:
        os._exit(pytest.ExitCode.INTERNAL_ERROR)


@attrs.define(eq=False)
class TrialsOfRows:
    """A plugin of pytest that runs the rows of some modules in a fork for every mutant.

    Args:
        path: a file of the package.
        modules: whose rows.
        mutants: the file's mutants.
        timeout: seconds for each run.
        codes: the exit codes, the first that of the code without a mutation.
    """

    path: Path
    modules: set[str]
    mutants: list[Mutant]
    timeout: int
    codes: list[int] = attrs.Factory(list)

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if module_of_row(item) in self.modules]

    def pytest_runtestloop(self, session):
        for mutant in (None, *self.mutants):
            trial = functools.partial(self.run, session, mutant)
            self.codes.append(in_fork(trial, self.timeout))
        return True

    def run(self, session, mutant):
        # Without a mutation the file's own code is put in its own place: if the tests pass so, a
        # failure is the mutation's.
        source = self.path.read_bytes() if mutant is None else mutant.source
        module = sys.modules[module_of(self.path)]
        compiled = compile(source, self.path, "exec", dont_inherit=True)
        for code in (part for part in compiled.co_consts if isinstance(part, CodeType)):
            function = inspect.unwrap(getattr(module, code.co_name, None))  # of its decorators
            if isinstance(function, FunctionType):
                function.__code__ = code
        with contextlib.suppress(session.Failed):
            runtestloop(session)
        return bool(session.testsfailed)


def module_of_row(item):
    """Give the module of the layer or loss that a test is called with, or None."""
    given = getattr(item, "callspec", None)
    match given and given.params:
        case {"case": case}:
            # A constructor binds hyperparameters to forward: func is the layer file's own.
            return getattr(case.layer.forward, "func", case.layer.forward).__module__
        case {"row": object(name=name)} | {"name": name}:
            losses = sys.modules["lincoln_fn.losses"]
            return getattr(getattr(losses, str(name), None), "__module__", None)
    return None


def try_rows(path: Path, mutants: list[Mutant], timeout: int) -> list[int]:
    """Try the mutants of a file on the tables' rows: an exit code for none, and for each."""
    trials = TrialsOfRows(path, users_of(path), mutants, timeout)
    sys.path.insert(0, str(PACKAGE.parent))
    tables = TABLES[path.parent.name]
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
        pytest.main([*OPTIONS, *(str(TESTS / name) for name in tables)], [trials])
    return trials.codes or [pytest.ExitCode.INTERNAL_ERROR]


@attrs.frozen
class Mutated(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Import one module from the mutated source."""

    module: str
    path: Path
    source: bytes

    def find_spec(self, name, path, target=None):
        if name == self.module:
            return importlib.util.spec_from_file_location(name, self.path, loader=self)
        return None

    def get_source(self, name):
        return self.source.decode()


def try_files(path: Path, mutant: Mutant | None, timeout: int) -> int:
    """Try a mutant of a file, or the code as it is, on whole test files: an exit code."""
    own = {file.name for file in family_of(path)} - {*TABLES[path.parent.name]}
    names = [*TABLES[path.parent.name], *sorted(own), *GENERAL]

    def trial():
        sys.path.insert(0, str(PACKAGE.parent))
        if mutant is not None:
            sys.meta_path.insert(0, Mutated(module_of(path), path, mutant.source))
        return pytest.main([*OPTIONS, *(str(TESTS / name) for name in names)])

    return in_fork(trial, timeout)


def module_of(path: Path) -> str:
    """Give the name by which a file is imported."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def users_of(path: Path) -> set[str]:
    """List a module and those of its folder that import it, directly or not."""
    users, imports = {module_of(path)}, {}
    for file in path.parent.glob("*.py"):
        imported = Module(file).imported.values()
        names = {name for module, own in imported for name in (module, f"{module}.{own}")}
        imports[module_of(file)] = names
    while more := {user for user, names in imports.items() if names & users} - users:
        users |= more
    return users


def family_of(path: Path) -> set[Path]:
    """List the test files named as a module is, or as tables in cases/ that speak of its users."""
    families = {"losses"}
    if path.parent.name == "layers":
        names = {user.rpartition(".")[2] for user in users_of(path)}
        named = re.compile(rf"(lf\.|\")\w*({'|'.join(names)})")
        tables = (TESTS / "cases").glob("*.py")
        families = {table.stem for table in tables if named.search(table.read_text())}
        families.add(path.stem.lstrip("_"))
    return {file for family in families for file in TESTS.glob(f"test_{family}*.py")}
