"""Hold the tests to account: break the gradients' code in small ways, and see whether they notice.

    python tests/mutate.py                                      all of layers/ and losses/
    python tests/mutate.py src/lincoln_fn/layers/gelu.py        one file
    python tests/mutate.py --only "layers/gelu.py:94 sign #1"   one mutant
    python tests/mutate.py --list                               what would be tried

A mutant is one small mistake in the code that gradients pass through: `backward`, `grads`,
`input_grad`, the losses' `slope`, and whatever of layers/ and losses/ they call. Its kind is one of

    sign        a sum for a difference, a minus dropped or added
    term        one term of a sum or one factor of a product alone; x for exp(x) and the like
    transposed  .mT or transpose dropped, the operands of @ swapped
    reduction   the mean for the sum, another axis
    index       an index, a dimension or the end of a slice shifted by one
    comparison  > for >=, and so on
    constant    a number greater by 1, True for False
    operand     the operands of - and / swapped, or the first two arguments of an ATen kernel

Checks of arguments and errors are left as they are.

Each mutant lives in a process of its own, forked from one that has imported torch already. Its
module is imported from the mutated source, and pytest runs there: first the rows, of the tables of
layers and losses, that use the module; then, if these pass, every test file that names one of
them, and the files of laws and formulas. A failure kills the mutant, and so do a crash and a
timeout. The same tests must pass without a mutation, or the script stops.
"""

import argparse
import functools
import gc
import importlib.abc
import importlib.util
import json
import os
import re
import signal
import sys
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import attrs
import pytest
import torch
from mutation.code import PACKAGE, Module, gradient_code
from mutation.mistakes import Mutant, mutants_of

TESTS = Path(__file__).resolve().parent
TABLES = {
    "layers": ("test_layers.py",),
    "losses": ("test_losses_table.py", "test_losses.py", "test_losses_edges.py"),
}
OPTIONS = (
    *("-x", "-q", "--tb=no", "--assert=plain", "-o", "addopts="),
    *("-p", "no:cacheprovider", "-p", "no:xdist"),
)
# What the parent has imported the mutants need not import.
SHARED = ("hypothesis.strategies", "jaxtyping", "numpy", "optree", "torch._dynamo")
GENERAL = ("test_formulas.py", "test_laws.py", "test_numerics.py")


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


@attrs.frozen
class RowsOf:
    """A plugin of pytest that keeps the rows of the tables that are of some modules."""

    modules: frozenset[str]

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if self.of(item) in self.modules]

    def of(self, item):
        given = getattr(item, "callspec", None)
        match given and given.params:
            case {"case": case}:
                # A constructor binds hyperparameters to forward: func is the layer file's own.
                forward = case.layer.forward
                return getattr(forward, "func", forward).__module__
            case {"row": object(name=name)} | {"name": name}:
                loss = getattr(sys.modules["lincoln_fn"].losses, name, None)
                return getattr(loss, "__module__", None)
        return None


def run(tests: tuple[str, ...], rows: RowsOf | None, mutant: Mutant | None, timeout: int) -> int:
    """Run tests in a fork, on a mutant or on the code as it is, and give pytest's exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        signal.alarm(timeout)  # ends the process
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.path.insert(0, str(PACKAGE.parent))
        if mutant is not None:
            finder = Mutated(module_of(mutant.path), mutant.path, mutant.source)
            sys.meta_path.insert(0, finder)
        files = [f"--rootdir={TESTS.parent}", *(str(TESTS / name) for name in tests)]
        os._exit(pytest.main([*OPTIONS, *files], [rows] if rows else None))
    finally:
        os._exit(pytest.ExitCode.INTERNAL_ERROR)


def module_of(path: Path) -> str:
    """Give the name by which a file is imported."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


@functools.cache
def stages_of(path: Path) -> list[tuple[tuple[str, ...], RowsOf | None]]:
    """List the tests that concern a file: the tables' rows, then whole files."""
    users, imports = {module_of(path)}, imports_of(path.parent)
    while more := {user for user, used in imports.items() if used & users} - users:
        users |= more
    families = {"losses"}
    if path.parent.name == "layers":
        names = {user.rpartition(".")[2] for user in users}
        named = re.compile(rf"(lf\.|\")\w*({'|'.join(names)})")
        tables = (TESTS / "cases").glob("*.py")
        families = {table.stem for table in tables if named.search(table.read_text())}
    tables = TABLES[path.parent.name]
    own = {file.name for family in families for file in TESTS.glob(f"test_{family}*.py")}
    return [(tables, RowsOf(frozenset(users))), ((*sorted(own), *GENERAL), None)]


@functools.cache
def imports_of(folder: Path) -> dict[str, set[str]]:
    """Give what each module of a folder imports from the package."""
    return {
        module_of(path): {
            name
            for module, alias in Module(path).imported.values()
            for name in (module, f"{module}.{alias}")
        }
        for path in folder.glob("*.py")
        if path.stem != "__init__"
    }


@functools.cache
def baseline(tests: tuple[str, ...], rows: RowsOf | None, timeout: int) -> int:
    """Give pytest's exit code on the code as it is."""
    return run(tests, rows, None, timeout)


def verdict(mutant: Mutant, timeout: int) -> str:
    """Say what became of a mutant: "killed", "killed by timeout" or "survived"."""
    for tests, rows in stages_of(mutant.path):
        code = baseline(tests, rows, 10 * timeout)
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:
            continue
        if code:
            return f"exit code {code} of {', '.join(tests)} without a mutation"
        code = run(tests, rows, mutant, timeout)
        if code:
            return "killed by timeout" if code == -signal.SIGALRM else "killed"
    return "survived"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folders = [PACKAGE / "layers", PACKAGE / "losses"]
    parser.add_argument("paths", nargs="*", type=Path, default=folders, help="files or folders")
    parser.add_argument("--workers", type=int, default=1, help="mutants tried at once")
    parser.add_argument("--timeout", type=int, default=60, help="seconds for one pytest run")
    parser.add_argument("--only", metavar="ID", help="try the mutants whose id starts so")
    parser.add_argument("--list", action="store_true", help="list the mutants and stop")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every verdict there")
    options = parser.parse_args()

    paths = {file for path in options.paths for file in (sorted(path.glob("*.py")) or [path])}
    everything = sorted(file for folder in folders for file in folder.glob("*.py"))
    mutants = [
        mutant
        for path, code in gradient_code(everything).items()
        if path in {path.resolve() for path in paths}
        for mutant in mutants_of(path, code)
        if mutant.name.startswith(options.only or "")
    ]
    if options.list:
        print(*(f"{mutant.name}  {mutant.diff}" for mutant in mutants), sep="\n")
        return
    for module in SHARED:
        importlib.import_module(module)
    torch.set_num_threads(1)
    torch.ones(2, 2, device="meta") @ torch.ones(2, 2, device="meta")  # imports what meta needs
    gc.disable()  # the mutants do not live long enough
    gc.freeze()
    with get_context("fork").Pool(options.workers) as pool:
        verdicts = {}
        timed = functools.partial(verdict, timeout=options.timeout)
        for mutant, fate in zip(mutants, pool.imap(timed, mutants), strict=True):
            verdicts[mutant.name] = fate
            print(f"\r{len(verdicts)} of {len(mutants)}", end="\r", file=sys.stderr, flush=True)
            if "without a mutation" in fate:
                sys.exit(f"{mutant.path}: {fate}")
            if fate == "survived":
                print(f"{mutant.name}  {mutant.diff}", flush=True)
    report(mutants, verdicts)
    if options.json:
        options.json.write_text(json.dumps(verdicts, indent=1))


def report(mutants: list[Mutant], verdicts: dict[str, str]) -> None:
    """Print, by module, how many mutants there were and what became of them."""
    files = [str(mutant.path.relative_to(PACKAGE)) for mutant in mutants]
    tried = Counter(files)
    survived = Counter(
        file
        for file, mutant in zip(files, mutants, strict=True)
        if verdicts[mutant.name] == "survived"
    )
    print(f"\n{'module':44} mutants  killed  survived  percent")
    rows = [(file, tried[file], survived[file]) for file in tried]
    for name, count, alive in (*rows, ("total", len(mutants), survived.total())):
        killed = count - alive
        percent = 100 * killed / max(count, 1)
        print(f"{name:44} {count:7} {killed:7} {alive:9} {percent:8.1f}")


if __name__ == "__main__":
    main()
