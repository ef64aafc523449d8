"""Hold the tests to account: break the gradients' code in small ways, and see whether they notice.

The tests are those of the short suite, or all of them:

    python tests/mutate.py                                      all of layers/ and losses/
    python tests/mutate.py src/lincoln_fn/layers/gelu.py        one file
    python tests/mutate.py --only "layers/gelu.py:94 sign #1"   one mutant
    python tests/mutate.py --full                               by all tests
    python tests/mutate.py --every 5                            every fifth mutant
    python tests/mutate.py --list                               what would be tried

A mutant is one small mistake in the code that gradients pass through: `backward`, `grads`,
`input_grad`, the losses' `count`, and whatever of layers/ and losses/ they call. Its kind is one of

    sign        a sum for a difference, a minus dropped or added
    term        one term of a sum or one factor of a product alone; x for exp(x) and the like
    transposed  .mT or transpose dropped, the operands of @ swapped
    reduction   the mean for the sum, another axis
    index       an index, a dimension or the end of a slice shifted by one
    comparison  > for >=, and so on
    constant    a number greater by 1, True for False
    operand     the operands of - and / swapped, or the first two arguments of an ATen kernel

Checks of arguments and errors are left as they are.

Each mutant lives in a process of its own. First, the rows of the tables of layers and losses that
use its module are collected once, and run in a fork for every mutant, whose functions' code and
constants take the place of the module's. Then, for those that survive, so do the test files of the
module's family and those of laws and formulas. A failure kills the mutant, and so do a crash and a
timeout. The same tests must pass without a mutation, or the script stops. docs/mutations.md tells
of the survivors.
"""

import argparse
import gc
import importlib
import json
import signal
import sys
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import torch
from helpers.mutation.code import PACKAGE, gradient_code
from helpers.mutation.mistakes import Mutant, mutants_of
from helpers.mutation.trials import try_in_forks

# What the parent has imported the mutants need not import.
SHARED = ("hypothesis.strategies", "jaxtyping", "numpy", "optree", "torch._dynamo")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folders = [PACKAGE / "layers", PACKAGE / "losses"]
    parser.add_argument("paths", nargs="*", type=Path, default=folders, help="files or folders")
    parser.add_argument("--full", action="store_true", help="try all tests, not the short suite")
    parser.add_argument("--workers", type=int, default=1, help="mutants tried at once")
    parser.add_argument("--timeout", type=int, default=60, help="processor seconds for a run")
    parser.add_argument("--only", metavar="ID", help="try the mutants whose id starts so")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try each Nth mutant")
    parser.add_argument("--list", action="store_true", help="list the mutants and stop")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every verdict there")
    options = parser.parse_args()

    paths = {file for path in options.paths for file in (sorted(path.rglob("*.py")) or [path])}
    everything = sorted(file for folder in folders for file in folder.rglob("*.py"))
    mutants = [
        mutant
        for path, code in gradient_code(everything).items()
        if path in {path.resolve() for path in paths}
        for mutant in mutants_of(path, code)
        if mutant.name.startswith(options.only or "")
    ][:: options.every]
    if options.list:
        print(*(f"{mutant.name}  {mutant.diff}" for mutant in mutants), sep="\n")
        return
    for module in SHARED:
        importlib.import_module(module)
    torch.set_num_threads(1)
    torch.ones(2, 2, device="meta") @ torch.ones(2, 2, device="meta")  # imports what meta needs
    gc.disable()  # the mutants do not live long enough
    gc.freeze()
    verdicts = judge(mutants, options.workers, options.timeout, options.full)
    report(mutants, verdicts)
    if options.json:
        options.json.write_text(json.dumps(verdicts, indent=1))


def judge(mutants: list[Mutant], workers: int, timeout: int, full: bool) -> dict[str, str]:
    """Say of each mutant whether it was "killed", "killed by timeout" or "survived"."""
    codes: dict[str, int] = {}
    # A process for every task, forked from this one, which has imported nothing of the package.
    with get_context("fork").Pool(workers, maxtasksperchild=1) as pool:
        for rows in (True, False):
            by_path: dict[Path, list[Mutant]] = {}
            for mutant in mutants:
                if not codes.get(mutant.name):
                    by_path.setdefault(mutant.path, []).append(mutant)
            tasks = [(path, own, timeout, full, rows) for path, own in by_path.items()]
            results = pool.starmap(try_in_forks, tasks, 1)
            for (path, own, *_), found in zip(tasks, results, strict=True):
                require_passed(path, found[0])
                codes.update(zip((mutant.name for mutant in own), found[1:], strict=True))
    ends = dict.fromkeys((-signal.SIGPROF, -signal.SIGALRM), "killed by timeout")
    names = {0: "survived", **ends}
    return {name: names.get(code, "killed") for name, code in codes.items()}


def require_passed(path: Path, code: int) -> None:
    """Stop where tests fail without a mutation: then a kill means nothing."""
    if code:
        sys.exit(f"{path}: the tests exit with {code} without a mutation")


def report(mutants: list[Mutant], verdicts: dict[str, str]) -> None:
    """Print the survivors and, by module, how many mutants there were and were killed."""
    files = [str(mutant.path.relative_to(PACKAGE)) for mutant in mutants]
    tried, survived = Counter(files), Counter()
    for file, mutant in zip(files, mutants, strict=True):
        if verdicts[mutant.name] == "survived":
            survived[file] += 1
            print(f"{mutant.name}  {mutant.diff}")
    print(f"\n{'module':44} mutants  killed  survived  percent")
    rows = [(file, tried[file], survived[file]) for file in tried]
    for name, count, alive in (*rows, ("total", len(mutants), survived.total())):
        killed = count - alive
        percent = 100 * killed / max(count, 1)
        print(f"{name:44} {count:7} {killed:7} {alive:9} {percent:8.1f}")


if __name__ == "__main__":
    main()
