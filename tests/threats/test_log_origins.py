"""Logs of libraries: no text of a URL in any line, and below WARNING no line at all."""

import json
import logging
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import urllib3

from worker.observe import logs
from worker.observe.log_origins import Origin, shortened

SECRET = "Berlin"
URL = f"http://127.0.0.1:9/forecast/{SECRET}?city={SECRET}"
LIBRARIES = Path(sysconfig.get_path("purelib"))
PYTHON = Path(sysconfig.get_path("stdlib"))
LOG = "import logging\ndef log(name, level, text, *args, **extra):\n"
LOG += "    logging.getLogger(name).log(level, text, *args, **extra)\n"


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Read the JSON lines that were logged; afterwards all loggers are as they were."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, threading.excepthook)
    yield lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    threading.excepthook = before[2]
    for name in logs._CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET)


def written_in(path: Path) -> Callable[..., None]:
    """Return a function that logs as if it stood in the file *path*."""
    names: dict[str, Any] = {}
    exec(compile(LOG, str(path), "exec"), names)
    log: Callable[..., None] = names["log"]
    return log


SOMEBODY = {
    "an installed package": (LIBRARIES / "some_sdk/http.py", "some_sdk.http"),
    "one with a logger of another name": (LIBRARIES / "some_sdk/http.py", "wire"),
    "one that logs through a function of ours": (Path("/srv/shop/tools.py"), "urllib3.connectionpool"),
    "one of the system": (Path("/usr/lib/python3/dist-packages/some_sdk.py"), "some_sdk"),
    "the standard library": (PYTHON / "asyncio/base_events.py", "asyncio"),
}


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
@pytest.mark.parametrize(("path", "name"), SOMEBODY.values(), ids=SOMEBODY)
def test_a_library_logs_nothing_below_warning(lines: Any, path: Path, name: str, level: int) -> None:
    """At any level of our own log: requests stand there, with their URLs and bodies."""
    logs.configure("DEBUG", style="json")

    written_in(path)(name, level, "GET %s", URL)

    assert lines() == []


@pytest.mark.parametrize(("path", "name"), SOMEBODY.values(), ids=SOMEBODY)
def test_a_warning_of_a_library_holds_no_text_of_a_url(lines: Any, path: Path, name: str) -> None:
    """Neither its path nor its query, in the text, its arguments or a field."""
    logs.configure("INFO", style="json")

    written_in(path)(name, logging.WARNING, "retry %s: /a/%s", URL, SECRET, extra={"request": {"url": [URL]}, "n": 2})

    (line,) = lines()
    assert SECRET not in str(line)
    assert (line["text"], line["n"]) == ("retry http://127.0.0.1:9/…: /…", 2)


def test_the_code_of_a_team_logs_at_our_level_and_without_urls(lines: Any) -> None:
    """Whether its file lies beside the program or is installed; a helper of it as well."""
    logs.configure("INFO", style="json", teams="shop_teams.support")

    written_in(LIBRARIES / "shop_teams/tools.py")("whatever", logging.INFO, f"asks {URL}")
    written_in(Path("/srv/shop/helper.py"))("helper", logging.INFO, "asks %s", URL)
    written_in(Path("/srv/shop/helper.py"))("helper", logging.DEBUG, "not at this level")

    assert [line["text"] for line in lines()] == ["asks http://127.0.0.1:9/…"] * 2


def test_real_clients_log_no_url(lines: Any) -> None:
    """httpx2 logs each request at INFO, urllib3 each retry at WARNING."""
    logs.configure("INFO", style="json")

    with httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200))) as client:
        client.get(URL)
    with suppress(urllib3.exceptions.HTTPError):
        urllib3.PoolManager(retries=urllib3.Retry(1, backoff_factor=0)).request("GET", URL)

    (retried,) = lines()
    assert retried["logger"] == "urllib3.connectionpool"
    assert SECRET not in str(retried)


def test_libraries_are_shown_where_that_is_set(lines: Any) -> None:
    """For debugging: their lines, as they are."""
    logs.configure("INFO", style="json", libraries="INFO")

    written_in(LIBRARIES / "some_sdk/http.py")("some_sdk", logging.INFO, "GET %s", URL)
    written_in(LIBRARIES / "some_sdk/http.py")("some_sdk", logging.DEBUG, "not at this level")

    assert [line["text"] for line in lines()] == [f"GET {URL}"]


def test_a_higher_level_of_ours_holds_for_libraries_too(lines: Any) -> None:
    """ERROR is ERROR."""
    logs.configure("ERROR", style="json")

    written_in(LIBRARIES / "some_sdk/http.py")("some_sdk", logging.WARNING, "hello")

    assert lines() == []


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("GET http://h:80/a?b=c done", "GET http://h:80/… done"),
        ("at https://user:pa%40ss@h.example/x", "at https://h.example/…"),
        ("at redis://:pa/ss@h:6379/0", "at redis://…"),
        ("at redis://:**@127.0.0.1:6379//: refused", "at redis://127.0.0.1:6379/…: refused"),
        ("'http://[::1]:9/x#y'", "'http://[::1]:9/…'"),
        ("http://h and http://h/", "http://h and http://h"),
        ("http://h?q=a&b=c@d", "http://…"),
        ("POST /chat?text=hello HTTP/1.1", "POST /… HTTP/1.1"),
        ("forecast?city=Berlin", "/…"),
        ("is it so? a=b", "is it so? a=b"),
        ("session 's-42' and/or run_1", "session 's-42' and/or run_1"),
    ],
)
def test_of_a_url_the_host_stays(text: str, short: str) -> None:
    """That says which server it was; the rest is what was asked."""
    assert shortened(text, Origin.TEAMS) == short
