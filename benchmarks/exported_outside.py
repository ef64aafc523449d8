"""Exported steps in JavaScript: in node, and in headless Chromium."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

RUNTIME: Final = "onnxruntime-web@1.22.0"
SCRIPT: Final = Path(__file__).with_name("exported.mjs")
PAGE: Final = """<!doctype html><title>Exported steps</title>
<script src="node_modules/onnxruntime-web/dist/ort.wasm.min.js"></script>
"""
# What measures a network by its name: {"ms": ..., "off": [...]}. Any: as JSON gives it.
Measure = Callable[[str], Any]


def in_node(folder: Path, rounds: int, seconds: float) -> Measure:
    """Install onnxruntime-web in a folder, and give what measures a network there in node."""
    install = ["npm", "install", "--silent", "--prefix", str(folder), RUNTIME]
    subprocess.run(install, check=True, timeout=600)
    shutil.copy(SCRIPT, folder)

    def run(name: str) -> Any:  # Any: as JSON gives it
        command = ["node", SCRIPT.name, ".", str(rounds), str(seconds), name]
        ran = subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=600
        )
        return json.loads(ran.stdout.splitlines()[-1])

    return run


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's name
        pass


@contextlib.contextmanager
def in_chromium(folder: Path, rounds: int, seconds: float) -> Iterator[Measure]:
    """Open a page in Chromium, and give what measures a network of the same folder there."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from helpers.browser import CHROMIUM, open_browser

    if CHROMIUM is None:
        raise SystemExit("--chromium: there is no Chromium")
    (folder / "index.html").write_text(PAGE)
    handler = functools.partial(_Handler, directory=str(folder))
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        open_browser(folder / "profile") as page,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.open(f"http://127.0.0.1:{server.server_port}/index.html")

        page.call("Performance.enable")

        def once(count: int) -> float:
            before = _processor_time(page)
            page.run(f"training.take({count})")
            return 1000 * (_processor_time(page) - before) / count

        def run(name: str) -> Any:  # Any: as above
            page.run(
                f"import('/{SCRIPT.name}').then((made) => made.open(ort, made.fetched, '{name}'))"
                ".then((training) => { globalThis.training = training; })"
            )
            off = page.run("training.compare()")
            # Chromium's clock of the processor has steps of a hundredth of a second.
            count = max(1, int(1000 * max(seconds, 0.5) / max(once(20), 0.1)))
            return {"ms": statistics.median(once(count) for _ in range(rounds)), "off": off}

        yield run
        server.shutdown()


def _processor_time(page: Any) -> float:  # Any: the tests' page
    """Return the seconds of the processor that the page's process has taken."""
    metrics = page.call("Performance.getMetrics")["metrics"]
    return next(float(one["value"]) for one in metrics if one["name"] == "ProcessTime")
