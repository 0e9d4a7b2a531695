"""Chromium over its debugging port on the loopback interface: no driver, only what the browser tests need.

https://chromedevtools.github.io/devtools-protocol/
"""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import websocket

FLAGS = "--headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --mute-audio".split()
FLAGS += "--disable-background-networking --disable-component-update --disable-dev-shm-usage".split()
# else our tab gets little time
FLAGS += ["--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--remote-debugging-port=0"]


def executable() -> str | None:
    """Where Chromium is, or None."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return os.environ.get("STEERKIT_CHROMIUM") or next(filter(None, found), None)


class Chromium:
    """A headless browser with one tab; `events` keeps what the tab said since it was last emptied."""

    def __init__(self, program: str, profile: Path) -> None:
        command, silent = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"], subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdout=silent, stderr=silent)
        noted, end = profile / "DevToolsActivePort", time.monotonic() + 60
        while not noted.exists() or not noted.read_text().count("\n"):
            assert self._process.poll() is None and time.monotonic() < end, "the browser did not start"
            time.sleep(0.02)
        port = noted.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as reply:
            [tab] = (target for target in json.load(reply) if target["type"] == "page")
        self._socket = websocket.create_connection(tab["webSocketDebuggerUrl"], 60, suppress_origin=True)
        self._number, self.events = 0, []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser for something and wait for its answer; RuntimeError when it refuses."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        answer = self._read_until(lambda found: found.get("id") == self._number)
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
            self._read_until(lambda found: found.get("method") == "Page.loadEventFired")

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
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=20)

    def _read_until(self, wanted: Callable[[dict], bool]) -> dict[str, Any]:
        while True:
            message = json.loads(self._socket.recv())
            if "method" in message:
                self.events.append(message)
            if wanted(message):
                return message
