"""A wait of more than two seconds says what it is for, and a short one says nothing."""

import threading
from contextlib import nullcontext
from importlib import import_module

import pytest
import torch
from helpers import MSE, begin, taken

import lincoln_fn as lf
from lincoln_fn.compiler import graphs
from lincoln_fn.compiler.inductor import disk_cache
from lincoln_fn.runtime.log import log_if_slow


def test_a_long_wait_is_said_while_it_lasts(heard):
    with log_if_slow("counting the stars", seconds=0.0):
        assert heard.event.wait(60)
    assert heard.lines == ["lincoln_fn: counting the stars"]


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_a_short_wait_says_nothing_and_neither_does_one_that_fails(error, heard):
    threads, started = set(threading.enumerate()), []

    def wait():
        with log_if_slow("adding two numbers", seconds=3600.0):
            started.extend(set(threading.enumerate()) - threads)
            if error:
                raise error

    with pytest.raises(error) if error else nullcontext():
        wait()
    (timer,) = started
    timer.join(60)
    assert not timer.is_alive()
    assert heard.lines == []


@pytest.fixture
def told(monkeypatch):
    """Note what the compiler says that it waits for."""
    told = []

    def note(what, **options):
        told.append(what)
        return log_if_slow(what, seconds=3600.0)

    for module in (graphs, import_module("lincoln_fn.compiler.compile")):
        monkeypatch.setattr(module, "log_if_slow", note)
    return told


@pytest.mark.parametrize("kept", [True, False])
def test_compiling_says_what_it_waits_for(monkeypatch, kept, tmp_path, told, uncompiled):
    # Nothing is found on disk, and nothing kept there.
    note_path = tmp_path / "note.json" if kept else None
    monkeypatch.setattr(disk_cache, "note_on", lambda traced, *, donate: note_path)
    monkeypatch.setattr(disk_cache, "keep", lambda note, made: None)
    layer = lf.compile(lf.dense(3))
    x = torch.ones(2, 5)
    layer.predict(layer.init(lf.Key(0), x), x)
    later = "once; later runs find it on disk" if kept else "once a process"
    assert told[-1] == f"compiling the layer, {later}"
    assert told[0] == "tracing the layer, once a process"


def test_a_smaller_last_batch_says_how_not_to_compile_again(told, uncompiled):
    x = torch.ones(5, 3)
    step, state = begin(lf.dense(1), x, MSE)
    taken(lf.compile(step), state, *lf.data.batches((x, torch.ones(5, 1)), 2, epochs=2))
    assert [text for text in told if "again" in text] == [
        "compiling again, for a batch of 1 examples; "
        "drop_last=True of data.batches leaves a smaller last batch out"
    ]
