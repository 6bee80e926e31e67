"""Orders of batches that cannot be meant so: refused with a status, a stable code, and nothing written."""

from typing import Any

import pytest

from tests.api.door import Door, check_problem

RUN = {"team": "plain", "input": "x"}
REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "a kind that is none": ({"kind": "delete"}, 422, "invalid_request"),
    "a filter that is none": ({"kind": "retry_failed", "select": {"colour": "red"}}, 422, "invalid_request"),
    "requests without any": ({"kind": "enqueue_runs"}, 422, "batch_invalid"),
    "runs for summaries": ({"kind": "refresh_summaries", "run_ids": ["r"]}, 422, "batch_invalid"),
    "two lists": ({"kind": "retry_failed", "run_ids": ["r"], "session_ids": ["s"]}, 422, "batch_invalid"),
    "an empty list": ({"kind": "retry_failed", "run_ids": []}, 422, "batch_invalid"),
    "more than nothing": ({"kind": "retry_failed", "more": True}, 422, "batch_invalid"),
    "runs that are absent": ({"kind": "retry_failed", "run_ids": ["absent"]}, 422, "batch_invalid"),
    "sessions with NUL": ({"kind": "refresh_summaries", "session_ids": ["a\0"]}, 422, "invalid_text"),
    "a filter beside a list": (
        {"kind": "retry_failed", "run_ids": ["r"], "select": {"tag": "t"}},
        422,
        "batch_invalid",
    ),
    "an estimate of a list": ({"kind": "retry_failed", "run_ids": ["r"], "dry_run": True}, 422, "batch_invalid"),
    "a tag with NUL": ({"kind": "retry_failed", "select": {"tag": "a\0"}}, 422, "invalid_text"),
    "a time out of range": (
        {"kind": "retry_failed", "select": {"since": "0001-01-01T00:00:00+14:00"}},
        422,
        "invalid_time",
    ),
    "a time that is none": ({"kind": "retry_failed", "select": {"until": "2026"}}, 422, "invalid_request"),
    "a status of runs that go on": ({"kind": "retry_failed", "select": {"status": "queued"}}, 422, "invalid_request"),
    "a canary of nothing": ({"kind": "retry_failed", "canary": "0"}, 422, "batch_invalid"),
    "a window of nothing": ({"kind": "retry_failed", "window": 0}, 422, "invalid_request"),
    "a limit of nothing": ({"kind": "retry_failed", "limits": {"items_per_minute": 0}}, 422, "invalid_request"),
    "a budget of 400 digits": ({"kind": "retry_failed", "budget": {"tokens": 10**400}}, 422, "invalid_request"),
    "a name with a line end": ({"kind": "retry_failed", "name": "a\nb"}, 422, "invalid_text"),
    "a rebuild of runs": ({"kind": "retry_failed", "rebuild": True}, 422, "batch_invalid"),
    "tools of summaries": ({"kind": "refresh_summaries", "execute_tools": True}, 422, "batch_invalid"),
    "a team that nobody serves": ({"kind": "enqueue_runs", "requests": [{**RUN, "team": "no"}]}, 404, "unknown_team"),
    "an input that is blank": ({"kind": "enqueue_runs", "requests": [RUN | {"input": " "}]}, 422, "empty_input"),
    "a custom id with NUL": ({"kind": "enqueue_runs", "requests": [RUN | {"custom_id": "\0"}]}, 422, "invalid_text"),
    "a custom id twice": (
        {"kind": "enqueue_runs", "requests": [RUN | {"custom_id": "a"}, RUN | {"custom_id": "a"}]},
        422,
        "batch_invalid",
    ),
}


@pytest.mark.parametrize(("body", "status", "code"), REFUSED.values(), ids=REFUSED)
def test_an_order_that_cannot_be_meant_is_refused(
    batch_door: Door, body: dict[str, Any], status: int, code: str
) -> None:
    """With what is wrong, and nothing is written."""
    newest = batch_door.http.get("/v1/batches", params={"limit": 1}).json()

    answer = batch_door.http.post("/v1/batches", json=body)

    check_problem(answer, status=status, code=code)
    assert batch_door.http.get("/v1/batches", params={"limit": 1}).json() == newest


def test_a_price_list_that_is_wrong_is_named(batch_door: Door) -> None:
    """It is read with each order, so that mending it helps at once."""
    file = batch_door.system.directory / "prices.json"
    good, body = file.read_text(), {"kind": "enqueue_runs", "requests": []}
    file.write_text('{"*": {"input": "much"}}')

    refused = batch_door.http.post("/v1/batches", json=body)
    file.write_text(good)

    problem = check_problem(refused, status=422, code="batch_invalid")
    assert "TEAM_SESSIONS_PRICES" in problem["detail"]
    assert batch_door.http.post("/v1/batches", json=body).status_code == 202
