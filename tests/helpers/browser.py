"""Headless Chromium, driven by its DevTools protocol through a pipe."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time

NAMES = "chromium", "chromium-browser", "google-chrome"
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
OPTIONS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
    "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
)  # fmt: skip
LOADED = """new Promise((loaded) =>
    document.readyState === "complete" ? loaded() : addEventListener("load", loaded))"""
SECONDS = 120  # for an answer; the first start of all takes a minute


@contextlib.contextmanager
def open_browser(profile):
    """Start Chromium with a profile of its own, give its page, and end it."""
    (to_read, to_send), (to_receive, to_answer) = os.pipe(), os.pipe()
    # Chromium reads from descriptor 3 and answers on 4.
    command = f'exec "$@" 3<&{to_read} 4>&{to_answer}'
    options = [*OPTIONS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        ["bash", "-c", command, "bash", CHROMIUM, *options],
        pass_fds=(to_read, to_answer), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_read)
    os.close(to_answer)
    try:
        yield Page(to_send, to_receive)
    finally:
        os.close(to_send)  # which ends it
        os.close(to_receive)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Page:
    """A page of a running browser."""

    def __init__(self, to_send, to_receive):
        self.to_send, self.to_receive = to_send, to_receive
        self.received, self.count, self.session = b"", 0, {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": found["sessionId"]}

    def call(self, method, **params):
        """Call a method of the protocol, and return its result."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params, **self.session}
        os.write(self.to_send, json.dumps(message).encode() + b"\0")
        while (answer := self._answer()).get("id") != self.count:
            pass  # an event
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def open(self, url, *, width=1280, height=900, **features):
        """Open a page in a window of this size, with media features: prefers_color_scheme, say."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        media = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.call("Emulation.setEmulatedMedia", features=media)
        assert "errorText" not in self.call("Page.navigate", url=url)
        self.run(LOADED)

    def run(self, script):
        """Run JavaScript, wait for what it promises, and return the value."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def picture(self):
        """Return a PNG of the page, from top to foot."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def _answer(self):
        end = time.monotonic() + SECONDS
        while b"\0" not in self.received:
            ready, _, _ = select.select([self.to_receive], [], [], max(0, end - time.monotonic()))
            assert ready, f"no answer in {SECONDS} s"
            self.received += os.read(self.to_receive, 1 << 20)
        answer, _, self.received = self.received.partition(b"\0")
        return json.loads(answer)
