"""A fixture: saves that do not wait for the disk."""

import os

import pytest


@pytest.fixture
def no_sync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
