"""`team-sessions flower`: Flower, with a login on every path."""

import click

from worker import settings as configuration
from worker.cli import broker, listening
from worker.cli.numbers import PORT
from worker.observe import logs
from worker.queue import flower_login
from worker.queue.app import make_app
from worker.queue.flower import serve


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=PORT, default=5555, show_default=True, help="Port to listen on.")
@click.option(
    "--login-file", type=click.Path(exists=True, dir_okay=False), required=True, help="File that holds user:password."
)
@click.option("--url-prefix", default="", help="Serve under /PREFIX/ for a proxy: see ops/flower/nginx.conf.")
def flower(host: str, port: int, login_file: str, url_prefix: str) -> None:
    """Serve Flower, which shows workers and tasks."""
    settings = configuration.load()
    logs.configure_from(settings)
    with open(login_file, "rb") as file:
        login = flower_login.parse(file.read(), file=login_file)
    listening.check(host, port, option="--port")
    broker.check(settings)
    serve(make_app(settings), address=host, port=port, login=login, url_prefix=url_prefix)
