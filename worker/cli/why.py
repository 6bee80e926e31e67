"""`team-sessions why`: why a run is not moving."""

import json

import click

from worker.cli.connection import connect


@click.command()
@click.argument("run_id")
@click.option("--json", "as_json", is_flag=True, help="Print the reason and its facts as JSON.")
def why(run_id: str, as_json: bool) -> None:
    """Say why the run RUN_ID is not moving."""
    with connect() as client:
        found = client.why(run_id)
    click.echo(json.dumps(found, ensure_ascii=False, indent=2) if as_json else f"{found['status']}: {found['detail']}")
