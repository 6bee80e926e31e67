"""`team-sessions api`: serve HTTP."""

import click

from api_stub.app import serve
from worker import settings as configuration
from worker.cli import broker, database, listening
from worker.cli.numbers import PORT
from worker.errors import BrokerUnusable, DatabaseUnusable, SchemaOutdated
from worker.observe import logs
from worker.settings import Settings

log = logs.get(__name__)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=PORT, default=8000, show_default=True, help="Port to listen on.")
def api(host: str, port: int) -> None:
    """Serve the HTTP API.

    It is stateless: start several behind a proxy.
    """
    settings = configuration.load()
    logs.configure_from(settings)
    listening.check(host, port, option="--port")
    _check_broker(settings)
    _check_database(settings)
    serve(settings, host=host, port=port)


def _check_broker(settings: Settings) -> None:
    """Log what is wrong with the broker. It does not end the API, which accepts runs without one."""
    try:
        broker.check(settings)
    except BrokerUnusable as error:
        log.warning("the broker cannot be used", detail=error.message)


def _check_database(settings: Settings) -> None:
    """Log what is wrong with the database, which may be away for a while. What waiting does not mend ends the API."""
    try:
        with database.opened(settings):
            pass
    except SchemaOutdated as error:
        log.warning("the database cannot be used yet", detail=error.message)
    except DatabaseUnusable as error:
        if error.facts["lasting"]:
            raise
        log.warning("the database cannot be used yet", detail=error.message)
