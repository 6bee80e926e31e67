"""`team-sessions api`: serve HTTP."""

import click
import uvicorn

from api_stub.app import make_app
from worker import settings as configuration
from worker.observe import logs


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on.")
def api(host: str, port: int) -> None:
    """Serve the HTTP API.

    Behind a proxy, start as many as you like: they hold nothing.
    """
    settings = configuration.load()
    logs.configure(settings.log_level, style=settings.log_style)
    uvicorn.run(
        make_app(settings),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,  # watchers would hold it open for as long as their runs last
    )
