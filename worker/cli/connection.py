"""How commands that talk to the API find it: TEAM_SESSIONS_URL and TEAM_SESSIONS_KEY, else what `up` wrote down."""

import os

import click

from api_stub.client import Client
from worker import settings as configuration


def connect() -> Client:
    """Return a client of the API.

    Raises:
        click.ClickException: it is not known where the API is, or no key is at hand.
    """
    directory = configuration.load().data_dir
    url = os.environ.get("TEAM_SESSIONS_URL") or _written(directory / "api-url") or "http://127.0.0.1:8000"
    key = os.environ.get("TEAM_SESSIONS_KEY") or _written(directory / "api-key")
    if key is None:
        raise click.ClickException(
            f"There is no key in {str(directory / 'api-key')!r}. Start 'team-sessions up' in this directory, or set "
            "TEAM_SESSIONS_URL and TEAM_SESSIONS_KEY."
        )
    return Client(url, key)


def _written(path: "os.PathLike[str]") -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip() or None
    except FileNotFoundError:
        return None
