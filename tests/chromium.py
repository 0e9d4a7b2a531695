"""Chromium over its debugging pipe: no port, no driver, no package; only what the browser tests need.

Chromium reads requests from file descriptor 3 and answers on 4, JSON ended by a zero byte (option
`--remote-debugging-pipe`; https://chromedevtools.github.io/devtools-protocol/).
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLAGS = "--headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --mute-audio".split()
FLAGS += "--disable-background-networking --disable-component-update --disable-dev-shm-usage".split()
# else our tab gets little time
FLAGS += ["--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--remote-debugging-pipe"]

# Give the two ends of ours the numbers that Chromium expects, then become Chromium.
HAND_OVER = """import os, sys
os.dup2(int(sys.argv[1]), 3), os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])"""


def executable() -> str | None:
    """Where Chromium is, or None."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return os.environ.get("STEERKIT_CHROMIUM") or next(filter(None, found), None)


class Chromium:
    """A headless browser with one tab; `events` keeps what the tab said since it was last emptied."""

    def __init__(self, program: str, profile: Path) -> None:
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        command = [sys.executable, "-c", HAND_OVER, str(theirs_in), str(theirs_out), program, *FLAGS]
        command += [f"--user-data-dir={profile}", "about:blank"]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), **silent)
        os.close(theirs_in)
        os.close(theirs_out)
        self._unread, self._number, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser for something and wait for its answer; RuntimeError when it refuses."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        _write_all(self._out, json.dumps(message).encode() + b"\0")
        answer = self._read_until(lambda found: found.get("id") == self._number, method)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression on the page; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", script))
        return answer["result"].get("value")

    def open(self, url: str) -> None:
        """Load a page and wait until it says that it is loaded; RuntimeError when there is none."""
        self.events.clear()
        answer = self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise RuntimeError(f"{url}: {answer['errorText']}")
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._read_until(lambda found: found.get("method") == "Page.loadEventFired", url)

    def resize(self, width: int, height: int) -> None:
        """Set the size of the window, in CSS pixels; below 600 it is a phone's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def press(self, key: str, code: int) -> None:
        """Press and release a key, by its name and its Windows key code."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="rawKeyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def close(self) -> None:
        """End the browser, and wait for it."""
        self._session = None
        try:
            self.call("Browser.close")
        except (RuntimeError, OSError):
            self._process.terminate()
        for end in (self._in, self._out):
            os.close(end)
        self._process.wait(timeout=20)

    def _read_until(self, wanted: Callable[[dict], bool], name: str, seconds: float = 60) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while True:
            message = self._next(end, name)
            if "method" in message:
                self.events.append(message)
            if wanted(message):
                return message

    def _next(self, end: float, name: str) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._in], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise RuntimeError(f"{name}: no answer from the browser")
            piece = os.read(self._in, 1 << 20)
            if not piece:
                raise RuntimeError(f"{name}: the browser has gone")
            self._unread += piece
        head, _, self._unread = self._unread.partition(b"\0")
        return json.loads(head)


def _write_all(end: int, data: bytes) -> None:
    while data:
        data = data[os.write(end, data) :]
