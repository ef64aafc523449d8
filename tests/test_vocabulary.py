"""The table of torch's vocabulary leaves nothing unsaid."""

import runpy

import pytest
import torch

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
