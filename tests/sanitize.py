"""Run the kernels in C++ against their formulas under AddressSanitizer and UBSan.

    python tests/sanitize.py

The tests that call `together` do so at sizes that fill no vector, on memory that begins at no
vector's place and ends with the last number. A read behind the end, or an overflow, ends the run.
"""

import os
import subprocess
import sys
from pathlib import Path

RUN: set[str] = set()
TESTS = Path(__file__).parent
# Checks by calls: written into the code, they take the compiler half as long again.
SANITIZED = (
    "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
    " --param asan-instrumentation-with-call-threshold=0"
)


def main() -> None:
    tests = sorted(TESTS.rglob("test_*.py"))
    files = [path for path in tests if "kernels_together" in path.read_text()]
    options = ["-s", "-n", "0", "-p", "sanitize"]  # -s: pytest would keep the report to itself
    command = [sys.executable, "-m", "pytest", *options, *map(str, files)]
    given = {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path[1:]]), "LD_PRELOAD": libraries()}
    # Python and torch keep what they allocate until they end.
    given["ASAN_OPTIONS"] = "detect_leaks=0"
    sys.exit(subprocess.run(command, env={**os.environ, **given}, check=False).returncode)


def libraries() -> str:
    """List the sanitizers' libraries, which are to be loaded before Python itself."""
    compiler, found = os.environ.get("CXX", "g++"), []
    for name in ("libasan.so", "libubsan.so"):
        command = [compiler, f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if not Path(path).is_absolute():  # the bare name again, where there is none
            print(f"not run under the sanitizers, for {compiler} has no {name}")
            sys.exit()
        found.append(path)
    return " ".join(found)


# The rest is pytest's plugin, in the process that has loaded them.


def pytest_collection_modifyitems(items: list) -> None:
    items[:] = [item for item in items if "together" in item.function.__code__.co_names]


def pytest_sessionstart() -> None:
    from torch._inductor import config

    from lincoln_fn.compiler.cpp_kernel import CppKernel

    os.environ.pop("LD_PRELOAD")  # lest the compiler run under them too
    config.cpp.enable_floating_point_contract_flag = f"off {SANITIZED}"
    call = CppKernel.__call__

    def noted(self, *given):
        RUN.add(self.name)
        return call(self, *given)

    CppKernel.__call__ = noted


def pytest_sessionfinish(session) -> None:
    """Fail if a kernel has not been run."""
    from lincoln_fn.compiler.cpp_kernel import CPP_KERNELS

    missing = {kernel.name for kernel in CPP_KERNELS.values()} - RUN
    if missing:
        print(f"\nnot run: {sorted(missing)}")
        session.exitstatus = 1


if __name__ == "__main__":
    main()
