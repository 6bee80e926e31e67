"""Write the pages that are generated from the program. `--check` only reports whether they are current."""

import argparse
import sys
from pathlib import Path

from prometheus_client import Metric
from pydantic import AliasChoices
from pydantic_core import PydanticUndefined

from ops.handbook import api_page, cli_page, client_types, events_page, names_page
from worker import errors
from worker.environment import PREFIX
from worker.observe import metrics
from worker.settings import Settings

HERE = Path(__file__).parent
MADE = "<!-- Made by ops/handbook/generate.py. Do not edit. -->\n\n"


def errors_page() -> str:
    """Return the table of error codes."""
    rows = [
        f"| `{cls.code}` | {cls.status if issubclass(cls, errors.RequestRefused) or cls.status != 500 else '–'} "
        f"| {'yes' if cls.retry else 'no'} | {errors.first_paragraph(cls)} |"
        for cls in _classes(errors.TeamSessionsError)
    ]
    text = (
        "# Errors\n\n"
        "Codes are stable. Errors that answer a request have an HTTP status; the others appear in `error.code` of a "
        "run, or end a command. *Retry*: the same request can succeed later without a change. "
        "The API adds `malformed_json` (400), `invalid_request` (422), `body_too_large` (413), "
        "`route_not_found` (404), `method_not_allowed` (405) and `http_error` (any other status).\n\n"
        "| code | HTTP | retry | message |\n|---|---|---|---|\n"
    )
    return MADE + text + "\n".join(rows) + "\n"


def settings_page() -> str:
    """Return the table of settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        names = list(alias.choices) if isinstance(alias, AliasChoices) else [alias or PREFIX + name.upper()]
        default = "" if field.default in (None, "", PydanticUndefined) else f"`{field.default}`"
        rows.append(f"| {', else '.join(f'`{n}`' for n in names)} | {default} | {field.description} |")
    text = (
        "# Settings\n\n"
        "Each process reads them from the environment once, at start, and reports all mistakes together. "
        "Durations are in seconds, sizes in bytes. "
        "Commands that call the API also read `TEAM_SESSIONS_URL` and `TEAM_SESSIONS_KEY`.\n\n"
        "Variables of other programs, such as `HTTP_PROXY`, `CELERY_BROKER_URL`, `FLOWER_PORT` or `PGPASSWORD`, change "
        "nothing; your tools can use them: [decision 36](decisions/0036-only-our-own-variables-count.md).\n\n"
        "| name | default | what it does |\n|---|---|---|\n"
    )
    return MADE + text + "\n".join(rows) + "\n"


def metrics_page() -> str:
    """Return the tables of metrics."""
    parts = [
        "# Metrics\n\n"
        "Units are in the names. Read them with `GET /metrics` of the API, and of each worker that has a metrics port "
        "(`TEAM_SESSIONS_METRICS_PORT`, or `--metrics-port` of `team-sessions worker` and `team-sessions up`), with "
        "`Authorization: Bearer KEY`. The key needs `runs:read`, and must be bound to no user and no team. "
        "`ops/prometheus/` has the configuration of Prometheus and the alerts, `ops/grafana/` a dashboard. "
        "[Why](decisions/0017-what-is-counted-and-what-is-read.md).\n"
    ]
    kinds = {
        "Counted by each process": ("since its start; use the sum over all processes", metrics.PROCESS),
        "State of the installation": (
            "at the API, read from the database; absent while the database is away",
            metrics.INSTALLATION,
        ),
        "Reachability of its parts": ("at the API", metrics.REACHABILITY),
    }
    for title, (where, registry) in kinds.items():
        rows = [_metric(family) for family in registry.collect() if family.name.startswith("team_sessions_")]
        parts.append(f"\n## {title}\n\n{where[0].upper()}{where[1:]}.\n\n| name | kind | what it is |\n|---|---|---|\n")
        parts += [row + "\n" for row in rows]
    parts.append("\nEach process also reports its memory, processor time and open files as `process_…`.\n")
    return MADE + "".join(parts)


def _metric(family: Metric) -> str:
    name = family.name + ("_total" if family.type == "counter" else "")
    labels = metrics.LABELS[family.name]
    return f"| `{name}{'{' + ', '.join(labels) + '}' if labels else ''}` | {family.type} | {family.documentation} |"


def decisions_page() -> str:
    """Return the list of decisions, by their first lines."""
    files = sorted((HERE / "decisions").glob("0*.md"))
    titles = [(file.name, file.read_text().partition("\n")[0].removeprefix("# ")) for file in files]
    text = "# Decisions\n\nDecisions stay as they were made. If a later decision replaces one, it says which.\n\n"
    return MADE + text + "".join(f"- [{title}]({name})\n" for name, title in titles)


PAGES = {
    "api.md": lambda: MADE + api_page.page(),
    "decisions/README.md": decisions_page,
    "cli.md": lambda: MADE + cli_page.page(),
    "errors.md": errors_page,
    "events.md": lambda: MADE + events_page.page(),
    "metrics.md": metrics_page,
    "names.md": names_page.page,
    "openapi.json": api_page.openapi_page,
    "settings.md": settings_page,
    "../../api_stub/client/types.py": client_types.page,
}


def _classes(cls: type[errors.TeamSessionsError]) -> list[type[errors.TeamSessionsError]]:
    return [cls, *(below for child in cls.__subclasses__() for below in _classes(child))]


def main() -> None:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a page is not current")
    check = parser.parse_args().check
    stale = [name for name, page in PAGES.items() if not (HERE / name).exists() or (HERE / name).read_text() != page()]
    for name in [] if check else stale:
        (HERE / name).write_text(PAGES[name]())
    print(f"{'Not current' if check else 'Written'}: {', '.join(stale) or 'none'}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
