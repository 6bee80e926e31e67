"""A real browser, asked over its DevTools protocol: Debian's chromium, without a window.

https://chromedevtools.github.io/devtools-protocol/. Its socket is spoken to by `websockets`, which uvicorn brings.
"""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync"),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--remote-debugging-port=0",
        "--hide-scrollbars",
    ),
)
TIMEOUT_S = 30.0


class NoBrowser(Exception):
    """No chromium was found on PATH. Install Debian's package `chromium`."""


class Browser:
    """One page of the browser. *login*, 'user:password', is what it answers when it is asked who it is."""

    def __init__(self, socket: ClientConnection, login: str | None) -> None:
        self._socket = socket
        self._login = login
        self._last = 0
        self.asked: list[tuple[str, int]] = []  # each address that this page asked for, with the status of the answer
        self.everything: list[tuple[str, int]] = []  # the same, of all pages
        self.complaints: list[str] = []  # what scripts of the page raised, or wrote as an error
        self._ask("Page.enable")
        self._ask("Network.enable")
        self._ask("Runtime.enable")
        if login is not None:
            self._ask("Fetch.enable", handleAuthRequests=True)

    def open(self, url: str) -> None:
        """Open a page, and wait until it has loaded."""
        self.asked.clear()
        self._ask("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'", description=url)

    def read(self, expression: str) -> Any:
        """Return what a JavaScript expression gives in the page."""
        return self._ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression: str, *, description: str) -> Any:
        """Return the first true value of a JavaScript expression."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            if value := self.read(expression):
                return value
            time.sleep(0.1)
        raise AssertionError(f"not within {TIMEOUT_S:g} s: {description}")

    def size(self, width: int, height: int, *, scale: float) -> None:
        """Give the page this size; a picture of it is *scale* times as large."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **size)

    def picture(self, file: Path) -> None:
        """Write what is seen of the page, as PNG."""
        file.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"]))

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = self._send(method, params)
        while True:
            told = json.loads(self._socket.recv(timeout=TIMEOUT_S))
            if told.get("id") == number:
                assert "error" not in told, (method, told["error"])
                return dict(told["result"])
            self._hear(told)

    def _send(self, method: str, params: dict[str, Any]) -> int:
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        return self._last

    def _hear(self, told: dict[str, Any]) -> None:
        params = told.get("params", {})
        match told.get("method"):
            case "Fetch.requestPaused":
                self._send("Fetch.continueRequest", {"requestId": params["requestId"]})
            case "Fetch.authRequired":
                assert self._login is not None
                user, _, password = self._login.partition(":")
                answer = {"response": "ProvideCredentials", "username": user, "password": password}
                self._send(
                    "Fetch.continueWithAuth", {"requestId": params["requestId"], "authChallengeResponse": answer}
                )
            case "Network.responseReceived":
                answered = (params["response"]["url"], params["response"]["status"])
                self.asked.append(answered)
                self.everything.append(answered)
            case "Runtime.exceptionThrown":
                self.complaints.append(params["exceptionDetails"]["text"])


@contextmanager
def browser(*, login: str | None) -> Iterator[Browser]:
    """Start a browser with nothing remembered, and end it at the end of the block.

    Raises:
        NoBrowser
    """
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        raise NoBrowser(NoBrowser.__doc__)
    with tempfile.TemporaryDirectory(prefix="team-sessions-browser-", ignore_cleanup_errors=True) as home:
        command = [program, *FLAGS, f"--user-data-dir={home}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with connect(_page_of(Path(home), process), max_size=None) as socket:
                yield Browser(socket, login)
        finally:
            process.terminate()
            process.wait()


def _page_of(home: Path, process: "subprocess.Popen[bytes]") -> str:
    """Return the address of the page's socket, once the browser has written down its port."""
    port_file = home / "DevToolsActivePort"
    _wait(lambda: port_file.exists() and port_file.read_text().count("\n") > 0, process)
    port = port_file.read_text().split("\n")[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=TIMEOUT_S) as answer:
        return str(next(t for t in json.load(answer) if t["type"] == "page")["webSocketDebuggerUrl"])


def _wait(ready: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not ready():
        assert process.poll() is None, f"the browser ended with exit code {process.returncode}"
        assert time.monotonic() < deadline, f"the browser did not start within {TIMEOUT_S:g} s"
        time.sleep(0.05)
