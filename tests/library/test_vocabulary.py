"""The table of torch's vocabulary leaves nothing unsaid."""

import runpy

import pytest
import torch
from helpers.cases.case import normal

import lincoln_fn as lf
from lincoln_fn.vocabulary import LEFT_OUT, RENAMED, table


def test_each_of_torchs_names_has_a_counterpart_or_a_reason():
    assert [row.torch for row in table() if not row.ours and not row.reason] == []


@pytest.mark.skipif(torch.__version__ < "2.13", reason="an older torch has fewer names")
def test_nothing_is_said_of_names_that_torch_does_not_have_or_that_have_a_counterpart():
    rows = {row.torch.partition(".")[2]: row for row in table()}
    assert set(LEFT_OUT) | set(RENAMED) <= set(rows)
    assert [name for name in LEFT_OUT if rows[name].ours] == []
    assert [name for name in RENAMED if rows[name].ours != RENAMED[name]] == []


# It is imported here already, of which runpy warns.
@pytest.mark.filterwarnings("ignore:'lincoln_fn.vocabulary' found in sys.modules:RuntimeWarning")
def test_the_command_prints_a_row_a_name(capsys):
    runpy.run_module("lincoln_fn.vocabulary", run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(table()) + 2
    assert "lf.conv2d" in "".join(lines)


def test_max_unpool_is_made_as_its_reason_says():
    unpool = lf.interop.from_function(lambda pair: torch.nn.functional.max_unpool2d(*pair, 2))
    net, x = lf.serial(lf.max_pool2d(2, return_indices=True), unpool), normal(2, 3, 4, 6)
    windows = x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    is_largest = x == windows.repeat_interleave(2, 2).repeat_interleave(2, 3)
    y, cache = net.forward(((), ()), x)
    assert torch.equal(y, x * is_largest)
    dx, _ = net.backward(((), ()), cache, torch.ones_like(y))
    assert torch.equal(dx, is_largest.to(x.dtype))
