"""The trials: tests run on the code as it is and on a mutant, in processes of their own."""

import ast
import contextlib
import functools
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
import short_suite
from _pytest.main import pytest_runtestloop as runtestloop

from helpers.mutation.code import PACKAGE, Module
from helpers.mutation.mistakes import Mutant
from lincoln_fn.core.signatures import unbound

TESTS = Path(__file__).resolve().parents[2]
TABLES = {
    "layers": ("layers/test_layers.py",),
    "losses": ("losses/test_table.py", "losses/test_losses.py", "losses/test_edges.py"),
}
OPTIONS = (
    *("-x", "-q", "--tb=no", "--assert=plain", "-o", "addopts="),
    *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler"),
)
GENERAL = ("library/test_laws.py", "layers/test_numerics.py")


def in_fork(trial: Callable[[], int], timeout: int) -> int:
    """Run a function in a process of its own, silently, and give its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        # Either ends the process. The processor's seconds do not depend on what else is running.
        signal.setitimer(signal.ITIMER_PROF, timeout)
        signal.alarm(20 * timeout)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os._exit(trial())
    finally:
        os._exit(pytest.ExitCode.INTERNAL_ERROR)


@attrs.define(eq=False)
class Trials:
    """A plugin of pytest that runs what was collected in a fork for every mutant of a file.

    Args:
        path: a file of the package.
        mutants: the file's mutants.
        timeout: seconds of the processor for each run.
        full: whether all tests run, and not those of the short suite.
        rows: whether only the rows of tables run, and not what a failure is less likely in.
        codes: the exit codes, the first that of the code without a mutation.
    """

    path: Path
    mutants: list[Mutant]
    timeout: int
    full: bool
    rows: bool
    codes: list[int] = attrs.Factory(list)

    def pytest_collection_modifyitems(self, items):
        if not self.full:
            items[:], _ = short_suite.divided(items)
        users = users_of(self.path)
        chosen = (item for item in items if may_use(module_of_row(item), users, self.rows))
        # A failing proof takes longer than a comparison, for it looks for the mistake.
        items[:] = sorted(chosen, key=lambda item: "proven" in item.name)

    def pytest_runtestloop(self, session):
        for mutant in (None, *self.mutants):
            trial = functools.partial(self.run, session, mutant)
            self.codes.append(in_fork(trial, self.timeout if mutant else 10 * self.timeout))
        return True

    def run(self, session, mutant):
        # Without a mutation the file's own code is put in its own place: if the tests pass so, a
        # failure is the mutation's.
        source = self.path.read_bytes() if mutant is None else mutant.source
        module = sys.modules[module_of(self.path)]
        compiled = compile(source, self.path, "exec", dont_inherit=True)
        for code in (part for part in compiled.co_consts if isinstance(part, CodeType)):
            function = inspect.unwrap(getattr(module, code.co_name, None))
            if isinstance(function, FunctionType):
                function.__code__ = code
        replace_constants(module, self.path.read_bytes(), source)
        with contextlib.suppress(session.Failed):
            runtestloop(session)
        return bool(session.testsfailed)


def replace_constants(module, before, after):
    """Set the constants of a module that differ in another source, where they are imported too."""
    for old, new in zip(ast.parse(before).body, ast.parse(after).body, strict=True):
        match new:
            case ast.Assign([ast.Name(name)]) | ast.AnnAssign(ast.Name(name)) if ast.dump(
                old
            ) != ast.dump(new):
                was, made = getattr(module, name), dict(vars(module))
                exec(compile(ast.Module([new], []), module.__file__, "exec"), made)
                for user in [*sys.modules.values()]:
                    if getattr(user, name, None) is was:
                        setattr(user, name, made[name])


def may_use(module, users, rows):
    """Whether a test, which is called with a module's layer or loss, may use one of some modules.

    With `rows`, only what is called with one of these.
    """
    is_single = module and module.startswith(("lincoln_fn.layers.", "lincoln_fn.losses."))
    return module in users or not (is_single or rows)


def module_of_row(item):
    """Give the module of the layer or loss that a test is called with, or None."""
    given = getattr(item, "callspec", None)
    match given and given.params:
        case {"case": object(layer=layer)} | {"layer": object(forward=_) as layer}:
            return unbound(layer.forward).__module__
        case {"row": object(name=name)} | {"name": name}:
            losses = sys.modules["lincoln_fn.losses"]
            return getattr(getattr(losses, str(name), None), "__module__", None)
    return None


def try_in_forks(
    path: Path, mutants: list[Mutant], timeout: int, full: bool, rows: bool
) -> list[int]:
    """Try the mutants of a file: an exit code for none, and for each."""
    trials = Trials(path, mutants, timeout, full, rows)
    sys.path.insert(0, str(PACKAGE.parent))
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
        pytest.main([*OPTIONS, *files_for(path, full, rows)], [trials])
    return trials.codes or [pytest.ExitCode.INTERNAL_ERROR]


def files_for(path: Path, full: bool, rows: bool) -> list[str]:
    """List the test files for a file of the package: those with the tables' rows, or all."""
    tables = TABLES[path.relative_to(PACKAGE).parts[0]]
    others = sorted({str(file.relative_to(TESTS)) for file in family_of(path)} - {*tables})
    names = tables if rows else (*tables, *others, *GENERAL)
    return [str(TESTS / name) for name in names if full or not short_suite.leaves_out(TESTS / name)]


def module_of(path: Path) -> str:
    """Give the name by which a file is imported."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def users_of(path: Path) -> set[str]:
    """List a module and those of its room that import it, directly or not."""
    users, imports = {module_of(path)}, {}
    for file in (PACKAGE / path.relative_to(PACKAGE).parts[0]).rglob("*.py"):
        imported = Module(file).imported.values()
        names = {name for module, own in imported for name in (module, f"{module}.{own}")}
        imports[module_of(file)] = names
    while more := {user for user, names in imports.items() if names & users} - users:
        users |= more
    return users


def family_of(path: Path) -> set[Path]:
    """List the test files named as a module is, or as tables in cases/ that speak of its users."""
    families, found = {"losses", path.stem}, set((TESTS / "losses").glob("test_*.py"))
    if path.relative_to(PACKAGE).parts[0] == "layers":
        names = {user.rpartition(".")[2] for user in users_of(path)}
        named = re.compile(rf"(lf\.|\")\w*({'|'.join(names)})")
        tables = (TESTS / "helpers" / "cases").glob("*.py")
        families = {table.stem for table in tables if named.search(table.read_text())}
        families.add(path.stem)
        found.clear()
    return found.union(*(TESTS.rglob(f"test_{family}*.py") for family in families))
