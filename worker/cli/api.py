"""`team-sessions api`: serve HTTP."""

import click

from api_stub.app import serve
from worker import settings as configuration
from worker.observe import logs


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on.")
def api(host: str, port: int) -> None:
    """Serve the HTTP API.

    It is stateless: start several behind a proxy.
    """
    settings = configuration.load()
    _ = settings.broker  # if it is not set, this ends in one sentence instead of a traceback of the server
    logs.configure(settings.log_level, style=settings.log_style)
    serve(settings, host=host, port=port)
