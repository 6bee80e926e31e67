"""How commands talk to the API: find it, and turn the client's errors into one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from api_stub.client import Client, NotConfigured, RequestFailed, Retries, Unreachable

FOR_USER = click.option("--user", "user_id", help="The user that a service key acts for.")
RETRIES = Retries(count=4)  # at most three seconds: a person is waiting


@contextmanager
def connect() -> Iterator[Client]:
    """Yield a client of the API.

    Raises:
        click.ClickException: the API's address or key is not known, it refused the request, or it cannot be reached.
    """
    with client_errors_shown(), Client(retries=RETRIES) as client:
        yield client


@contextmanager
def client_errors_shown() -> Iterator[None]:
    """Turn errors of the client into errors that click prints."""
    try:
        yield
    except (NotConfigured, RequestFailed) as error:
        raise click.ClickException(str(error)) from error
    except Unreachable as error:
        raise click.ClickException(f"{error} Is 'team-sessions up' running?") from error
