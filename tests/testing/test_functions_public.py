"""Fifty fixed gradient bugs of public histories: found before their repair, and right after it.

`python -m helpers.functions.table`, run in `tests`, prints the table, with what gradcheck says.
"""

import re

import pytest
import torch
from helpers.functions import PAIRS
from helpers.functions.kernels import KERNELS, inputs_in, kernel, reference
from helpers.functions.table import called, report, said

import lincoln_fn as lf

# Named by those who asked for these cases.
FIVE = {
    "linkedin/Liger-Kernel#272", "NX-AI/mlstm_kernels#16", "jmschrei/cherimoya#25",
    "pytorch/pytorch#194719", "pytorch/ao#4139",
}  # fmt: skip


def test_there_are_fifty_of_as_many_sources():
    sources = {pair.source for pair in PAIRS}
    assert len(PAIRS) == len(sources) == 50
    assert sources >= FIVE


@pytest.mark.whole
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_forward_is_not_what_was_wrong(pair):
    before, after = (called(pair, fixed)(*pair.fresh()) for fixed in (False, True))
    torch.testing.assert_close(before, after, rtol=0, atol=0)


@pytest.mark.full(but=("mlpack", "Odyssey", "long-context"))
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_bug_is_found_and_named_and_its_repair_is_right(pair):
    assert re.search(pair.says, said(pair, False))
    assert report(pair, True).mistakes == ()


@pytest.mark.full
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pair", KERNELS, ids=str)
def test_a_kernel_without_float64_has_the_same_verdict(pair, dtype):
    def verdict(fixed):
        inputs = inputs_in(pair, dtype)
        of = reference(pair)
        return lf.testing.check_function(
            kernel(pair, fixed), *inputs, reference=of, all=True
        ).verdict

    assert (verdict(False), verdict(True)) == ("wrong", "right")


@pytest.mark.full
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_kernels_of_triton_have_the_same_verdict(monkeypatch, dtype):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="runs kernels by Triton's interpreter")
    from helpers.functions import in_triton

    for pair in in_triton.PAIRS:
        before, after = (
            lf.testing.check_function(
                pair.make(fixed), *inputs_in(pair, dtype), reference=pair.reference, all=True
            )
            for fixed in (False, True)
        )
        assert re.search(pair.says, "\n".join(each.sentence for each in before.mistakes))
        assert after.mistakes == ()


# What torch 2.13 itself, and a branch with a constant of five rows, do wrong.
FAULTS = {
    "torch-batch_norm-True": "dinput is wrong where weight is strided",
    "torch-pixel_shuffle": r"invalid gradient .*size 0",
    "torch-pixel_unshuffle": r"backward raised .*size 0",
    "torch-multi_margin_loss": r"size 0",
}
FEW = {"operator", "module-ReLU(inplace=True)", "torch-sort", "torch-softmax--1", "gelu in float16"}


@pytest.mark.parametrize("names", [FEW, pytest.param(set(), marks=pytest.mark.full)], ids=len)
def test_a_right_function_raises_no_alarm(names):
    from helpers.functions.right import RIGHT

    alarms, chosen = {}, [right for right in RIGHT if not names or right.name in names]
    assert len(chosen) == (len(names) or len(RIGHT))
    for right in chosen:
        report = lf.testing.check_function(right.f, *right.inputs, all=True)
        assert report.mistakes or report.is_right
        alarms |= {right.name: report.mistakes[0].sentence} if report.mistakes else {}
    assert alarms.keys() == (set() if names else FAULTS.keys())
    assert all(re.search(FAULTS[name], told) for name, told in alarms.items())
