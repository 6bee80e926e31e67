"""The servers: the API with its key, and Flower with its login."""

import base64
import ipaddress
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from api_stub.client import Client, ClientError, NotConfigured, RequestFailed, Retries, trust
from api_stub.client.address import find
from worker.cli.checks.finding import URL_NAME, Finding, Installation, failed, ok, skipped, warning
from worker.cli.direct import open_directly
from worker.errors import LoginInvalid
from worker.queue import flower_login

TIMEOUT_S = 4.0


class _Answer(NamedTuple):
    status: int
    body: bytes


def api(installation: Installation) -> Iterator[Finding]:
    """Check whether it answers, is ready, accepts the key, and is reachable from other machines."""
    if not _has_address(installation):
        yield skipped("Its address is not known: 'up' was not started here, and TEAM_SESSIONS_URL is not set.")
        return
    try:
        url = find(None, "a-key", environment=installation.environment).url
        status = readiness(installation)
        if status is None:
            advice = "Start 'team-sessions up' or 'team-sessions api', or set TEAM_SESSIONS_URL."
            yield failed("api_away", "It does not answer at its address.", advice)
            return
        findings = [*_status_is_ready(status), *_key(), *_public("The API", url)]
        yield from findings or [ok("It is ready, and accepts the key.")]
    except NotConfigured as error:
        yield failed("api_not_configured", *_with_advice(str(error)))


def readiness(installation: Installation) -> str | None:
    """Return the status that the API reports at /readyz; None: it does not answer, or its address is not known."""
    if not _has_address(installation):
        return None
    try:
        answer = _get(f"{_reachable(find(None, 'a-key', environment=installation.environment).url)}/readyz")
    except NotConfigured:
        return None
    if answer is None:
        return None
    try:
        return str(json.loads(answer.body)["status"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status}" if answer.status >= 400 else "no answer of an API"


def flower(installation: Installation) -> Iterator[Finding]:
    """Check whether it answers with its login, and refuses without."""
    url = installation.flower_url or _read_file(installation, "flower-url")
    if url is None:
        yield skipped("Its address is not known: 'up' was not started here, and --flower-url is not set.")
        return
    page = f"{_reachable(url)}/healthcheck"
    without = _get(page)
    if without is None:
        yield failed("flower_away", "It does not answer at its address.", "See the output of 'up'; runs continue.")
    elif without.status == 200:
        advice = "Start it with 'team-sessions flower --login-file FILE', and check who can reach its port."
        yield failed("flower_open", "It answers without a login: everyone who can reach it sees all runs.", advice)
    elif (login := _login(installation)) is None:
        yield skipped("It requires a login; there is none in the data directory to try.")
    elif (answer := _get(page, login=login)) is None or answer.status != 200:
        advice = "Restart Flower: it reads the login at its start. Or write its login to DIR/flower-login."
        yield failed("flower_login", "It refuses the login in the data directory.", advice)
    else:
        yield from [*_public("Flower", url)] or [ok("It answers with its login, and refuses without.")]


def _login(installation: Installation) -> str | None:
    """Return Flower's login; None: there is none that can be used."""
    text = _read_file(installation, "flower-login")
    try:
        return text and flower_login.parse(text.encode(), file="flower-login")
    except LoginInvalid:
        return None


def _has_address(installation: Installation) -> bool:
    return bool(installation.environment.get(URL_NAME)) or (installation.settings.data_dir / "api-url").exists()


def _status_is_ready(status: str) -> Iterator[Finding]:
    if status != "ready" and not status.startswith("ready;"):
        advice = "See the check of the part it names; for an API on another machine, run doctor there."
        yield failed("api_not_ready", f"It is not ready: {status}.", advice)


def _key() -> Iterator[Finding]:
    try:
        with Client(retries=Retries(count=0)) as client:
            next(iter(client.teams()), None)
    except NotConfigured as error:
        yield failed("api_no_key", *_with_advice(str(error)))
    except RequestFailed as error:
        if error.status in (401, 403):
            advice = "Set TEAM_SESSIONS_KEY to a key of this API, made with 'team-sessions keys create'."
            yield failed("api_key_refused", "It refuses the key.", advice)
    except ClientError:
        yield failed("api_broken_off", "Its answer broke off.", "See its log.")


def _public(what: str, url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_local(parts.hostname or ""):
        detail = f"{what} accepts unencrypted connections from other machines: keys, logins and texts can be read."
        yield warning("listens_publicly", detail, "Let it listen on 127.0.0.1 (--host), behind a proxy with TLS.")


def is_local(host: str) -> bool:
    """Tell whether *host* is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _get(url: str, *, login: str | None = None) -> _Answer | None:
    headers = {} if login is None else {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - an http address that the operator set
        with open_directly(request, timeout=TIMEOUT_S) as answer:
            return _Answer(answer.status, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return _Answer(error.code, error.read())
    except (OSError, ValueError):
        return None


def _read_file(installation: Installation, name: str) -> str | None:
    """Return what `up` wrote to a file; None: there is none, or another user can have written it."""
    directory = installation.settings.data_dir
    try:
        if trust.problem_of_directory(directory) or trust.problem_of_file(directory / name):
            return None
        return (directory / name).read_text(encoding="utf-8").strip("\r\n") or None
    except (OSError, UnicodeDecodeError):
        return None


def _reachable(url: str) -> str:
    return url.rstrip("/").replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _with_advice(text: str) -> tuple[str, str]:
    detail, _, advice = text.partition(". ")
    return f"{detail.rstrip('.')}.", advice or "Set TEAM_SESSIONS_URL and TEAM_SESSIONS_KEY."
