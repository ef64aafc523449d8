"""Fifty fixed gradient bugs of public histories: found before their repair, and right after it.

`python -m helpers.functions.table`, run in `tests`, prints the table, with what gradcheck says.
"""

import pytest
import torch
from helpers.functions import PAIRS
from helpers.functions.table import called

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
