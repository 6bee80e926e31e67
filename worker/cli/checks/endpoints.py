"""What listens: the API with its key, and Flower with its login."""

import base64
import ipaddress
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from api_stub.client import Client, ClientError, NotConfigured, RequestFailed, Retries
from api_stub.client.address import find
from worker.cli.checks.finding import Finding, Installation, failed, ok, skipped, warning

WAIT_S = 4.0
NAMED = "TEAM_SESSIONS_URL"


def api(installation: Installation) -> Iterator[Finding]:
    """Whether it answers, is ready, takes our key, and to whom it listens."""
    if not _is_named(installation):
        yield skipped("It is not known where it is: neither 'up' has told here, nor TEAM_SESSIONS_URL.")
        return
    try:
        url = find(None, "a-key", environment=installation.environment).url
        status = readiness(installation)
        if status is None:
            detail = "It gives no answer at its address."
            yield failed(
                "api_away", detail, "Start 'team-sessions up' or 'team-sessions api', or set TEAM_SESSIONS_URL."
            )
            return
        troubles = [*_ready(status), *_key(), *_public("API", url)]
        yield from troubles or [ok("It is ready, and takes our key.")]
    except NotConfigured as error:
        yield failed("api_not_configured", *_with_advice(str(error)))


def readiness(installation: Installation) -> str | None:
    """Return what the API says of itself at /readyz; None: it does not answer, or it is not known where it is."""
    if not _is_named(installation):
        return None
    try:
        url = find(None, "a-key", environment=installation.environment).url
        with _asked(f"{_reachable(url)}/readyz") as answer:
            return str(json.load(answer)["status"])
    except urllib.error.HTTPError as error:
        try:
            return str(json.load(error)["status"])
        except (ValueError, KeyError, TypeError):
            return f"HTTP {error.code}"
    except (ValueError, KeyError, TypeError):
        return "no answer of an API"
    except (OSError, NotConfigured):
        return None


def flower(installation: Installation) -> Iterator[Finding]:
    """Whether it answers whoever has its login, and nobody else."""
    url = installation.flower_url or _written(installation, "flower-url")
    if url is None:
        yield skipped("It is not known where it is: neither 'up' has told here, nor --flower-url.")
        return
    page = f"{_reachable(url)}/healthcheck"
    without = _status(page)
    if without is None:
        yield failed("flower_away", "It gives no answer at its address.", "See what 'up' prints about it; runs go on.")
    elif without == 200:
        advice = "Start it with 'team-sessions flower --login-file FILE', and see who reaches its port."
        yield failed("flower_open", "It answers without a login: whoever reaches it sees every run.", advice)
    elif (login := _written(installation, "flower-login")) is None:
        yield skipped("It answers and wants a login; there is none in the data directory to try.")
    elif _status(page, login=login) != 200:
        advice = "Start Flower again: it reads the login when it starts. Or put its login into DIR/flower-login."
        yield failed("flower_login", "It refuses the login in the data directory.", advice)
    else:
        yield from [*_public("Flower", url)] or [ok("It answers with its login, and refuses without.")]


def _is_named(installation: Installation) -> bool:
    return bool(installation.environment.get(NAMED)) or (installation.settings.data_dir / "api-url").exists()


def _ready(status: str) -> Iterator[Finding]:
    if status != "ready" and not status.startswith("ready;"):
        advice = "See the checks of what it names; for an API elsewhere, run doctor there."
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
            yield failed("api_key_refused", "It refuses our key.", advice)
    except ClientError:
        yield failed("api_broken_off", "It broke off its answer.", "See its log.")


def _public(what: str, url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    try:
        here = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        here = parts.hostname == "localhost"
    if parts.scheme == "http" and not here:
        detail = (
            f"{what} is reached from other machines, and unencrypted: keys, logins and texts can be read on the way."
        )
        advice = "Have it listen on 127.0.0.1 (--host), behind a proxy that speaks TLS."
        yield warning("listens_publicly", detail, advice)


def _status(url: str, *, login: str | None = None) -> int | None:
    try:
        with _asked(url, login=login) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (OSError, ValueError):
        return None


def _asked(url: str, *, login: str | None = None) -> "urllib.request.addinfourl":  # type: ignore[name-defined]
    request = urllib.request.Request(url)  # noqa: S310 - the address is the owner's, and of http
    if login is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    return urllib.request.urlopen(request, timeout=WAIT_S)  # noqa: S310


def _written(installation: Installation, name: str) -> str | None:
    try:
        return Path(installation.settings.data_dir / name).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _reachable(url: str) -> str:
    return url.rstrip("/").replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _with_advice(text: str) -> tuple[str, str]:
    detail, _, advice = text.partition(". ")
    return f"{detail.rstrip('.')}.", advice or "Set TEAM_SESSIONS_URL and TEAM_SESSIONS_KEY."
