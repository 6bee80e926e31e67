"""`team-sessions doctor`: what is wrong with an installation, and what to do about it."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

import click

from worker import settings as configuration
from worker.cli import terminal
from worker.cli.checks.examine import CHECKS, Result, examine
from worker.cli.checks.finding import Installation, Level
from worker.cli.numbers import FiniteRange
from worker.cli.output import json_option, json_requested, print_object
from worker.environment import PREFIX

SIGNS = {Level.OK: "✓", Level.SKIPPED: "–", Level.WARNING: "!", Level.FAILED: "✗"}
PLAIN = {Level.OK: "ok", Level.SKIPPED: "-", Level.WARNING: "!", Level.FAILED: "X"}  # where the encoding lacks those
COLOURS = {Level.OK: "green", Level.SKIPPED: None, Level.WARNING: "yellow", Level.FAILED: "red"}
MAX_WIDTH = 120


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Data directory of 'team-sessions up'.")
@click.option("--flower-url", metavar="URL", help="Address of a Flower that 'up' did not start here.")
@click.option(
    "--within", "within_s", type=FiniteRange(1, 600), default=15.0, show_default=True, help="Seconds per check."
)
@json_option("Print the findings as JSON.")
def doctor(data_dir: Path | None, flower_url: str | None, within_s: float) -> None:
    """Check everything that a run needs, and say how to fix what is wrong.

    It checks settings, teams, files, database, broker, workers, waiting runs, models, API and Flower, with the settings
    of this terminal. Run it in the directory of 'up', or with the environment of a worker. With TEAM_SESSIONS_URL alone
    it checks the API only. It changes nothing and pays for no model call.

    \b
        team-sessions doctor
        team-sessions doctor --json | jq '.[] | select(.level == "failed")'

    The exit code is 1 if a check failed. Warnings alone give 0: runs are executed.
    """
    if data_dir is not None:
        os.environ[PREFIX + "DATA_DIR"] = str(data_dir)
    settings, mistakes = configuration.load_readable()
    installation = Installation(settings, mistakes, dict(os.environ), flower_url)
    with redirect_stdout(sys.stderr):  # a module of teams may print while it is imported
        results = _examine(installation, within_s=within_s)
    if json_requested():
        print_object(_as_json(results), str)
    else:
        _print(results)
    sys.stdout.flush()
    sys.stderr.flush()
    # os._exit does not wait for the thread of a check that hangs.
    os._exit(1 if any(result.failed for result in results) else 0)


def _examine(installation: Installation, *, within_s: float) -> list[Result]:
    """Run the checks, with a progress bar on a terminal."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(
        length=len(CHECKS), label="Looking", file=terminal.unguarded(sys.stderr), hidden=hidden, width=24
    ) as bar:
        return examine(installation, within_s=within_s, on_result=lambda _: bar.update(1))


def _as_json(results: Sequence[Result]) -> list[dict[str, object]]:
    return [{"check": result.name, **asdict(finding)} for result in results for finding in result.findings]


def _print(results: Sequence[Result]) -> None:
    signs, arrow = (SIGNS, "→ ") if _can_encode("".join(SIGNS.values()) + "→") else (PLAIN, "> ")
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    names = max(len(result.name) for result in results)
    margin = " " * (names + 5)
    for result in results:
        for finding in result.findings:
            terminal.echo(signs[finding.level].ljust(2), colour=COLOURS[finding.level], nl=False)
            detail = click.wrap_text(finding.detail, width, initial_indent=margin, subsequent_indent=margin)
            click.echo(f" {result.name.ljust(names)}  {detail[len(margin) :]}")
            if finding.advice is not None:
                click.echo(click.wrap_text(arrow + finding.advice, width, margin, margin + "  "))
    click.echo(_conclusion(results))


def _can_encode(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _conclusion(results: Sequence[Result]) -> str:
    counts = Counter(finding.level for result in results for finding in result.findings)
    skipped = f" {counts[Level.SKIPPED]} skipped." if counts[Level.SKIPPED] else ""
    if not counts[Level.FAILED] and not counts[Level.WARNING]:
        return f"All is well.{skipped}"
    failures = f"{counts[Level.FAILED]} failed" if counts[Level.FAILED] else "Nothing failed"
    warnings = f", {counts[Level.WARNING]} warning{'s' if counts[Level.WARNING] > 1 else ''}"
    return f"{failures}{warnings if counts[Level.WARNING] else ''}.{skipped}"
