"""`team-sessions doctor`: what is wrong with an installation, and what to do about it."""

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import click

from worker import settings as configuration
from worker.cli.checks import CHECKS
from worker.cli.checks.examine import Result, examine
from worker.cli.checks.finding import Case, Level
from worker.settings import PREFIX

SIGNS = {Level.OK: "✓", Level.SKIPPED: "–", Level.WARNING: "!", Level.FAILED: "✗"}
PLAIN = {Level.OK: "ok", Level.SKIPPED: "-", Level.WARNING: "!", Level.FAILED: "X"}  # for a terminal without these
COLOURS = {Level.OK: "green", Level.SKIPPED: None, Level.WARNING: "yellow", Level.FAILED: "red"}
MOST_WIDTH = 120


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Of 'team-sessions up', if it is not the default.")
@click.option("--flower-url", metavar="URL", help="Where Flower is, if 'up' did not start it here.")
@click.option(
    "--within", "within_s", type=click.FloatRange(1, 600), default=15.0, show_default=True, help="Seconds for each."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(data_dir: Path | None, flower_url: str | None, within_s: float, as_json: bool) -> None:
    """Look at everything that a run needs, and say what to do about what is wrong.

    Settings, teams, files, database, broker, workers, waiting runs, models, API and Flower are looked at from here,
    with the settings of this terminal: beside a running 'up', in its directory; or where a worker stands, with its
    environment. Nothing is changed, and no model call is paid for.

    \b
        team-sessions doctor
        team-sessions doctor --json | jq '.[] | select(.level == "failed")'

    Ends with code 1 where something has failed. A warning ends with 0: runs are executed.
    """
    if data_dir is not None:
        os.environ[PREFIX + "DATA_DIR"] = str(data_dir)
    settings, mistakes = configuration.load_readable()
    case = Case(settings, mistakes, dict(os.environ), flower_url)
    # A module of teams may print while it is imported: that is none of our answer.
    with redirect_stdout(sys.stderr):
        results = _examine(case, within_s=within_s)
    _print_json(results) if as_json else _print(results)
    sys.stdout.flush()
    sys.stderr.flush()
    # A check that hangs is left behind: nothing of it is waited for.
    os._exit(1 if any(result.failed for result in results) else 0)


def _examine(case: Case, *, within_s: float) -> list[Result]:
    """Make the checks; on a terminal a bar shows how far they are."""
    label = "Looking"
    with click.progressbar(
        length=len(CHECKS), label=label, file=sys.stderr, hidden=not sys.stderr.isatty(), width=24
    ) as bar:
        return examine(CHECKS, case, within_s=within_s, on_result=lambda _: bar.update(1))


def _print_json(results: Sequence[Result]) -> None:
    lines = [
        {
            "check": result.name,
            "level": finding.level,
            "code": finding.code,
            "detail": finding.detail,
            "advice": finding.advice,
        }
        for result in results
        for finding in result.findings
    ]
    click.echo(json.dumps(lines, ensure_ascii=False, indent=2))


def _print(results: Sequence[Result]) -> None:
    signs = SIGNS if _can_show("".join(SIGNS.values()) + "→") else PLAIN
    width = min(shutil.get_terminal_size().columns, MOST_WIDTH)
    names = max(len(result.name) for result in results)
    for result in results:
        name = result.name
        for finding in result.findings:
            sign = click.style(signs[finding.level].ljust(2), fg=COLOURS[finding.level])
            margin = " " * (names + 5)
            detail = click.wrap_text(finding.detail, width, initial_indent=margin, subsequent_indent=margin)
            click.echo(f"{sign} {name.ljust(names)}  {detail[len(margin) :]}")
            if finding.advice is not None:
                arrow = "→ " if signs is SIGNS else "> "
                click.echo(click.wrap_text(arrow + finding.advice, width, margin, margin + "  "))
            name = ""
    click.echo(_conclusion(results))


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _conclusion(results: Sequence[Result]) -> str:
    counts = Counter(finding.level for result in results for finding in result.findings)
    skipped = f" {counts[Level.SKIPPED]} not looked at." if counts[Level.SKIPPED] else ""
    if counts[Level.FAILED] or counts[Level.WARNING]:
        failures = f"{counts[Level.FAILED]} failed" if counts[Level.FAILED] else "Nothing failed"
        warnings = f"{counts[Level.WARNING]} warning{'s' if counts[Level.WARNING] > 1 else ''}"
        return f"{failures}{', ' + warnings if counts[Level.WARNING] else ''}.{skipped}"
    return f"All is well.{skipped}"
