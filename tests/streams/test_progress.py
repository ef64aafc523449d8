"""What a run shows: a bar on a terminal, plain lines elsewhere, by a clock of the tests' own."""

import io
import math
import re
import sys
import time
import types

import pytest
from helpers.children import printed_by_child

import lincoln_fn as lf
from lincoln_fn.streams import progress
from lincoln_fn.training.progress_display import display


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Let a test say how time goes by: give a list whose only number is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def steps(clock, losses, *, seconds=1.0, examples=32, scores=None):
    """Give steps that take so many seconds each."""
    for number, loss in enumerate(losses, 1):
        clock[0] += seconds
        yield None, lf.StepRecord(number, loss, examples, (scores or {}).get(number, {}))


SPEED = "32 examples/s]"
# By case: what the steps are, how progress is shown, and the lines.
LINES = {
    "at intervals and at the end": (
        {"losses": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], "scores": {4: {"f1": 0.5}}},
        {"total": 7, "seconds": 3},
        [
            f"3/7 steps [00:03<00:04, loss 2, {SPEED}",
            f"6/7 steps [00:06<00:01, loss 5, f1 0.5, {SPEED}",
            f"7/7 steps [00:07<00:00, loss 7, f1 0.5, {SPEED}",
        ],
    ),
    "the last line alone": (
        {"losses": [1.0, 2.0, 3.0]}, {"total": 3, "seconds": math.inf},
        [f"3/3 steps [00:03<00:00, loss 2, {SPEED}"],
    ),
    "of unknown length and batches": (
        {"losses": [0.123456, 1e-5], "examples": None, "seconds": 0.5}, {"seconds": 0},
        ["1 steps [00:00, loss 0.1235, 2.0 steps/s]", "2 steps [00:01, loss 1e-05, 2.0 steps/s]"],
    ),
    "no step": ({"losses": []}, {"total": 5}, []),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_plain_lines(case, clock):
    file, (run, shown, lines) = io.StringIO(), LINES[case]
    stream = progress(steps(clock, **run), file=file, **shown)
    assert [record.loss for _, record in stream] == run["losses"]
    assert file.getvalue() == "".join(f"{line}\n" for line in lines)


def test_a_line_counts_examples_and_time_since_the_line_before(clock):
    file = io.StringIO()
    records = [lf.StepRecord(1, 0.5, 100), lf.StepRecord(2, 0.5, 20), lf.StepRecord(3, 0.5, 60)]

    def timed():
        for seconds, record in zip((1, 3, 4), records, strict=True):
            clock[0] += seconds
            yield None, record

    list(progress(timed(), total=10, seconds=4, file=file))
    assert file.getvalue().splitlines() == [
        "2/10 steps [00:04<00:16, loss 0.5, 30 examples/s]",
        "3/10 steps [00:08<00:28, loss 0.5, 15 examples/s]",
    ]


def test_what_was_not_shown_yet_is_shown_when_a_run_fails(clock):
    file = io.StringIO()
    stream = progress(steps(clock, [1.0, 2.0, 3.0]), total=3, file=file)
    next(stream), next(stream)
    stream.close()
    assert file.getvalue() == "2/3 steps [00:02<00:01, loss 1.5, 32 examples/s]\n"


def test_a_bar_shows_steps_time_left_loss_scores_and_speed(clock):
    file = Terminal()
    scores = {2: {"accuracy": 0.25}}
    list(progress(steps(clock, [1.0, 2.0, 3.0, 4.0], scores=scores), total=4, file=file))
    pictures = file.getvalue().rstrip().split("\r")
    assert re.match(r" *0%\|.*\| 0/4 \[", pictures[1])
    half = next(picture for picture in pictures if "2/4" in picture)
    assert re.match(r" *50%\|.*\| 2/4 \[.*<.*, loss 2, accuracy 0.25, [\d,]+ examples/s\]", half)
    assert re.match(r"100%\|.*\| 4/4 \[.*<.*, loss 4, accuracy 0.25, ", pictures[-1])
    assert file.getvalue().endswith("\n")


def test_a_bar_moves_ten_times_a_second_however_fast_the_steps(clock):
    file = Terminal()
    list(progress(steps(clock, [1.0] * 1000, seconds=1 / 1024), total=1000, file=file))
    shown = [int(number) for number in re.findall(r"(\d+)/1000", file.getvalue())]
    assert shown == [*range(0, 1000, 103), 1000, 1000]  # 103 steps take a tenth of a second


def test_a_bar_of_unknown_length_counts(clock):
    file = Terminal()
    list(progress(steps(clock, [1.0, 2.0]), file=file))
    assert re.match(r"2 steps \[.*, loss 2, ", file.getvalue().rstrip().split("\r")[-1])


def test_standard_error_is_the_default(clock, capsys):
    list(progress(steps(clock, [0.5]), total=1))
    assert capsys.readouterr() == ("", "1/1 steps [00:01<00:00, loss 0.5, 32 examples/s]\n")


def test_a_line_takes_the_place_of_a_plain_line(clock, capsys):
    with display(5, seconds=3) as show:
        for number, (_, record) in enumerate(steps(clock, [1.0, 2.0, 3.0, 4.0, 5.0]), 1):
            show.step(record)
            if number == 2:
                show.line("epoch 1", {"f1": 0.5})
    printed = capsys.readouterr()
    assert printed.out == "epoch 1\n"
    assert printed.err == "5/5 steps [00:05<00:00, loss 4, f1 0.5, 32 examples/s]\n"


def test_a_line_stands_above_the_bar_which_shows_its_scores(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with display(1) as show:
        show.step(lf.StepRecord(1, 0.5, 32))
        clock[0] += 1
        show.line("epoch 1", {"f1": 0.75})
    printed = capsys.readouterr()
    assert "epoch 1\n" in printed.out
    assert re.search(r"1/1 \[.*, loss 0.5, f1 0.75, 32 examples/s\]", printed.err)


@pytest.fixture
def notebook(monkeypatch):
    """Run within the kernel of a notebook, as far as tqdm and we look at it."""
    kernel = types.SimpleNamespace(config={"IPKernelApp": {}})
    package = types.SimpleNamespace(get_ipython=lambda: kernel)
    monkeypatch.setitem(sys.modules, "IPython", package)


def test_a_notebook_has_a_bar_in_the_cells_output(clock, capsys, notebook):
    with display(2) as show:
        for number, (_, record) in enumerate(steps(clock, [1.0, 2.0]), 1):
            show.step(record)
            show.line(f"epoch {number}", {"f1": number / 2})
    printed = capsys.readouterr()
    assert printed.err == ""
    assert re.search(r"\r 50%\|.*1/2 \[.*, loss 1, [^\n]*\repoch 1\n\r 50%", printed.out)
    assert re.search(r"\r100%\|.*2/2 \[.*, loss 2, f1 0.5, [^\n]*\repoch 2\n\r100%", printed.out)


def test_a_file_that_is_given_has_plain_lines_in_a_notebook_too(clock, notebook):
    file = io.StringIO()
    list(progress(steps(clock, [0.5]), total=1, file=file))
    assert file.getvalue() == "1/1 steps [00:01<00:00, loss 0.5, 32 examples/s]\n"


WITHOUT_WIDGETS = """
import sys, types, warnings
extensions = types.SimpleNamespace(load_extension=lambda name: None)
kernel = types.SimpleNamespace(config={"IPKernelApp": {}}, extension_manager=extensions)
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: kernel)
sys.modules["ipykernel.zmqshell"] = types.ModuleType("ipykernel.zmqshell")  # for tqdm
sys.modules["ipywidgets"] = None  # makes its import fail
import lincoln_fn as lf
warnings.simplefilter("always")
list(lf.streams.progress([(None, lf.StepRecord(1, 0.5))], total=1))
"""


def test_a_notebook_without_widgets_has_a_bar_of_text_and_no_warning():
    said = printed_by_child(WITHOUT_WIDGETS)
    assert re.search(r"100%\|.*\| 1/1 \[.*, loss 0.5, .* steps/s\]", said)


def test_nothing_is_shown_where_nothing_is_wanted(capsys):
    with display(1, shown=False) as show:
        show.step(lf.StepRecord(1, 0.5))
        show.line("epoch 1", {})
    assert capsys.readouterr() == ("", "")
