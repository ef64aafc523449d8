"""Run tests as other processors would: with fewer vectors, with more threads, and emulated.

    python .ci/processors.py                all of them, in the order below
    python .ci/processors.py Nehalem        one of them

Four parts of a step differ from processor to processor: ATen's loops, oneDNN's kernels, MKL's
products, and the C++ that Inductor writes. A variable holds each of them back, and none depends on
another, so that one run holds back all. A run first prints what each says of itself. To learn which
one a failure comes from, set one variable by hand and run the test that failed.

The other processors are an Intel or AMD of 2008, and an old one as qemu emulates it. A test is
here if it compares a kernel, a faster twin or a compiled step with its formula. Those that compare
bits run with two threads, which divide a sum, and in the short suite below, whose last bits differ.
They do not run a third time without vectors, by hand `ATEN_CPU_CAPABILITY=default` and their names:
that takes 30 s of a gate that is at its 30 minutes. It orders sums in another way, as two threads
do, and rounds in another way, as the suite below does.

Then comes the whole short suite on a processor that nobody has: `tests/perturbed.py` gives each
product another last bit. Each commit has a seed of its own, which is printed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Why a file is here: what its tests compare. By room, the names of the files.
TWINS = {"fastpath": "fastpath optimizers_fast product rearranged"}
KERNELS = {
    "compiler": "bfloat16 small_products product_updates pooled_convolution lstm_loops lowering"
}
COMPILED = {"compiler": "compile_rewrites"}
# Random networks compiled; the rest of its file plants mistakes in what is compared.
FUZZ = "tests/repository/test_fuzz.py::test_a_short_run_finds_nothing"
BITS = {
    "walk": "walk",
    "rules": "rules alignment",
    "per_example": "forms",
    "replay": "replay",
    "core": "keys",
}

# Inductor and a compiler under emulation take a minute, and so would a hundred more tests.
EMULATED = (
    "tests/fastpath/test_rearranged.py",
    "tests/compiler/test_compile_function.py",
    *("-k", "rearranged or same_again"),
)

NO_VECTORS = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
# Threads that spin would wait for those of the other worker.
THREADS = {"LINCOLN_FN_TEST_THREADS": "2", "OMP_WAIT_POLICY": "passive"}

PARTS = """
import torch
torch.ones(64, 64) @ torch.ones(64, 64)
torch.nn.functional.conv2d(torch.ones(2, 3, 8, 8), torch.ones(4, 3, 3, 3))
print("ATen:", torch.backends.cpu.get_cpu_capability())
"""
QEMU = ("qemu-x86_64", "-cpu", "Nehalem")


def files(*groups: dict[str, str]) -> list[str]:
    """Give the paths of tests in some groups."""
    return [
        f"tests/{room}/test_{name}.py"
        for group in groups
        for room, names in group.items()
        for name in names.split()
    ]


def parts(python: list[str], environment: dict[str, str]) -> str:
    """Ask ATen, oneDNN and MKL, as far as torch has them, what they use of the processor."""
    told = {**os.environ, **environment, "ONEDNN_VERBOSE": "1", "MKL_VERBOSE": "1"}
    command = [*python, "-c", PARTS]
    said = subprocess.run(command, env=told, capture_output=True, text=True, check=True).stdout
    patterns = r"ATen: .*", r"(?<=cpu,isa:).*", r"CNR:\w+"
    return ", ".join(found[0] for found in (re.search(one, said) for one in patterns) if found)


def run(name: str, python: list[str], environment: dict[str, str], tests: list[str]) -> bool:
    """Run tests and print a line on them, and all that they print if one fails."""
    chosen = " ".join(f"{variable}={value}" for variable, value in environment.items())
    print(f"{name}: {chosen}: {parts(python, environment)}", flush=True)
    began, told = time.monotonic(), {**os.environ, **environment}
    # An emulator does not emulate the processes that xdist would start.
    workers = "0" if python[1:] else "2"
    command = [*python, "-m", "pytest", "-n", workers, "-p", "no:cacheprovider", *tests]
    ran = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    last = ran.stdout.strip().splitlines()[-1:]
    is_well = ran.returncode == 0
    if not is_well:
        print(ran.stdout, ran.stderr, sep="\n")
    took = time.monotonic() - began
    print(f"{name}: {'' if is_well else 'FAILED '}{''.join(last)}; {took:.0f} s", flush=True)
    return is_well


def seed() -> str:
    """Draw a seed from the commit, or give the same one where there is no git."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "1"
    return str(int(ran.stdout[:8], 16))


def main() -> bool:
    """Run what is named, or everything."""
    chosen = sys.argv[1:]
    native = [sys.executable]
    all_files = [*files(TWINS, KERNELS, COMPILED, BITS), FUZZ]
    with tempfile.TemporaryDirectory() as folder:
        # The compiler too is to take the emulated processor for its own.
        compiler = Path(folder, "g++")
        compiler.write_text(f'#!/bin/sh\nexec {" ".join(QEMU)} "$(command -v g++)" "$@"\n')
        compiler.chmod(0o755)
        emulated = {
            "CXX": str(compiler),
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
            # numpy computes products for it; the machine may name its own processor there.
            "OPENBLAS_CORETYPE": "Nehalem",
        }
        runs = {
            # Inductor writes the same C++ without vectors as the emulated processor compiles.
            "no vectors": (native, NO_VECTORS, files(TWINS, KERNELS)),
            "AVX2 and two threads": (native, AVX2 | THREADS, all_files),
            "Nehalem": ([*QEMU, sys.executable], emulated, list(EMULATED)),
            "perturbed": (native, {"LINCOLN_FN_PERTURBED": seed()}, []),
        }
        if unknown := set(chosen) - runs.keys():
            sys.exit(f"expected names among {sorted(runs)}, got {sorted(unknown)}")
        if not shutil.which(QEMU[0]):
            del runs["Nehalem"]
            print(f"Nehalem: not run, for {QEMU[0]} of Debian's qemu-user is not installed")
        # What is emulated takes one core, beside the others.
        with ThreadPoolExecutor(1) as emulator, ThreadPoolExecutor(1) as processor:
            results = [
                (emulator if name == "Nehalem" else processor).submit(run, name, *given)
                for name, given in runs.items()
                if not chosen or name in chosen
            ]
    return all(result.result() for result in results)


if __name__ == "__main__":
    sys.exit(not main())
