"""What the process does with freed memory, seen in the pages that it asks the system for."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

import lincoln_fn as lf

# Ten times, four pieces of 16 MiB are written to and freed; the pages asked for are counted.
PROGRAM = """
import resource, sys, torch
import lincoln_fn as lf

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use():
    pieces = [torch.ones(2**22) for _ in range(4)]

if "keep" in sys.argv:
    assert lf.keep_freed_memory()
for _ in range(3):
    use()
before = pages()
for _ in range(10):
    use()
print(pages() - before)
"""

has_mallopt = hasattr(ctypes.pythonapi, "mallopt")


@pytest.mark.skipif(not has_mallopt, reason="the C library has no such setting")
def test_kept_memory_is_not_asked_for_again():
    def pages(*arguments: str) -> int:
        command = [sys.executable, "-c", PROGRAM, *arguments]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    # By a factor, for a system may hand out pages of two sizes.
    assert 10 * pages("keep") < pages()


@pytest.mark.parametrize("given", [-1, 2**31])
def test_an_amount_that_the_c_library_cannot_take_is_refused(given):
    with pytest.raises(ValueError, match=f"bytes, got {given}"):
        lf.keep_freed_memory(given)


def test_a_c_library_without_the_setting_is_told_of(monkeypatch):
    monkeypatch.setattr(ctypes, "pythonapi", object())
    assert lf.keep_freed_memory() is False
