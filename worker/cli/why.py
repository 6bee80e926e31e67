"""`team-sessions why`: why a run is not moving."""

import click

from worker.cli.connection import connect
from worker.cli.output import json_option, print_object


@click.command()
@click.argument("run_id")
@json_option("Print the reason and its facts as JSON.")
def why(run_id: str) -> None:
    """Say why the run RUN_ID is not moving."""
    with connect() as client:
        print_object(client.why(run_id), lambda answer: f"{answer['status']}: {answer['detail']}")
