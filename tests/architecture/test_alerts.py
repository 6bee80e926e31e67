"""Alerts and the dashboard name what there is; `ops/prometheus/check` evaluates them, where Prometheus is installed."""

import json
import re
from typing import Any

import pytest

from tests.architecture.test_house import ROOT
from worker.observe import metrics

RULES = (ROOT / "ops/prometheus/alerts.yml").read_text()
CASES = (ROOT / "ops/prometheus/alerts_test.yml").read_text()
DASHBOARD = ROOT / "ops/grafana/dashboards/team-sessions.json"
ALERTS = dict(re.findall(r"- alert: (\w+)\n(.*?)(?=\n\n|\Z)", RULES, re.DOTALL))
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def series() -> dict[str, set[str]]:
    """Return the labels of each series that a scraper can meet, by its name."""
    found: dict[str, set[str]] = {}
    for registry in (metrics.PROCESS, metrics.INSTALLATION, metrics.REACHABILITY):
        for family in registry.collect():
            if family.name in metrics.LABELS:
                labels = {*metrics.LABELS[family.name], "job", "instance"}
                for suffix in SUFFIXES[family.type]:
                    found[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def queries() -> list[str]:
    """Return each query of the dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


@pytest.mark.parametrize("text", [RULES, CASES, *queries()], ids=lambda text: text[:50])
def test_every_metric_that_is_named_is_there_with_these_labels(text: str) -> None:
    """In alerts, in their cases, in each query of the dashboard."""
    known = series()

    named = set(re.findall(r"\bteam_sessions_\w+", text))
    selected = re.findall(r"\b(team_sessions_\w+)\{([^}]*)\}", text)

    assert named - set(known) == set()
    for metric, selector in selected:
        assert set(re.findall(r"(\w+)\s*[=!]", selector)) <= known[metric], (metric, selector)


@pytest.mark.parametrize("query", queries())
def test_a_query_groups_by_labels_that_its_metrics_have(query: str) -> None:
    """A label that is not there would fold all series into one, without a word."""
    known = series()

    grouped = {label for by in re.findall(r"by \(([^)]*)\)", query) for label in by.split(", ")}

    for metric in set(re.findall(r"\bteam_sessions_\w+", query)):
        assert grouped <= known[metric], (metric, grouped)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_what_to_do_and_has_its_page_and_its_cases(alert: str) -> None:
    """Its page names it, and it has a case in which it fires and one in which it does not."""
    rule = ALERTS[alert]
    page = re.findall(r"runbook: (ops/handbook/runbooks/[\w-]+\.md)$", rule, re.MULTILINE)
    expected = re.findall(rf"alertname: {alert}\n        exp_alerts:( \[\])?", CASES)

    assert len(page) == 1
    assert f"`{alert}`" in (ROOT / page[0]).read_text()
    assert re.search(r"severity: (critical|warning)\b", rule)
    assert re.search(r"summary: \S.*\. .*[.\"]$", rule, re.MULTILINE), "what it is, and what to do"
    assert {"", " []"} == set(expected)


def test_every_metric_is_on_the_dashboard() -> None:
    """Whoever adds one shows it."""
    shown = "\n".join(queries())

    assert [name for name in metrics.LABELS if not re.search(rf"\b{name}(_total|_bucket)?\b", shown)] == []


def test_panels_do_not_cover_each_other() -> None:
    """Each has a place of its own in a grid of 24 columns, and an id."""
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells

    assert len({panel["id"] for panel in panels}) == len(panels)
