"""A fixture: what the library logs."""

import logging
import threading

import pytest

from lincoln_fn.runtime.log import LOG


class Heard(logging.Handler):
    """Sets an event at the first line, so that nobody has to sleep."""

    def __init__(self):
        super().__init__()
        self.lines, self.event = [], threading.Event()

    def emit(self, record):
        self.lines.append(record.getMessage())
        self.event.set()


@pytest.fixture
def heard(monkeypatch):
    handler = Heard()
    monkeypatch.setattr(LOG, "handlers", [handler])
    monkeypatch.setattr(LOG, "propagate", False)
    return handler
