"""What is sent about batches, without a socket."""

from typing import Any

from api_stub.client import calls


def test_each_call_asks_what_the_contract_names() -> None:
    """Method, path, query, body; what is not given is not sent."""
    asked = [
        calls.create_batch("retry_failed", select={"team": "t"}, canary="1%", budget={"tokens": 5}, name="n"),
        calls.create_batch("refresh_summaries", session_ids=("a", "b"), more=True, rebuild=True),
        calls.estimate_batch("replay_runs", select={"user_id": "u"}),
        calls.add_to_batch("b", first=3, requests=[{"team": "t", "input": "x"}], user_id="u"),
        calls.batches(user_id="u").request,
        calls.batch("b/c"),
        calls.batch_items("b", status="failed").request,
        calls.batch_results("b").request(),
        calls.pause_batch("b"),
        calls.resume_batch("b"),
        calls.resume_batch("b", budget={"tokens": 7}),
        calls.cancel_batch("b"),
        calls.retry_batch("b", user_id="u"),
    ]

    assert [(r.method, r.path, r.query, r.body) for r in asked if r] == [
        (
            *("POST", "/v1/batches", {}),
            {"kind": "retry_failed", "select": {"team": "t"}, "canary": "1%", "budget": {"tokens": 5}, "name": "n"},
        ),
        (
            *("POST", "/v1/batches", {}),
            {"kind": "refresh_summaries", "session_ids": ["a", "b"], "more": True, "rebuild": True},
        ),
        ("POST", "/v1/batches", {}, {"kind": "replay_runs", "select": {"user_id": "u"}, "dry_run": True}),
        (
            *("POST", "/v1/batches/b/items", {"user_id": "u"}),
            {"first": 3, "requests": [{"team": "t", "input": "x"}]},
        ),
        ("GET", "/v1/batches", {"user_id": "u", "limit": "200"}, None),
        ("GET", "/v1/batches/b%2Fc", {}, None),
        ("GET", "/v1/batches/b/items", {"status": "failed", "limit": "200"}, None),
        ("GET", "/v1/batches/b/results", {}, None),
        ("POST", "/v1/batches/b/pause", {}, None),
        ("POST", "/v1/batches/b/resume", {}, {}),
        ("POST", "/v1/batches/b/resume", {}, {"budget": {"tokens": 7}}),
        ("POST", "/v1/batches/b/cancel", {}, None),
        ("POST", "/v1/batches/b/retry", {"user_id": "u"}, None),
    ]


def sent(*request: Any, **options: Any) -> Any:
    """What the HTTP library is called with."""
    return request, options


def test_an_order_is_the_same_each_time_it_is_sent() -> None:
    """Under one key, the caller's or a new one, so that it makes one batch."""
    order = calls.create_batch("retry_failed")

    assert order.send(sent) == order.send(sent)
    assert len(order.headers["Idempotency-Key"]) == 32
    assert calls.create_batch("retry_failed").headers != order.headers
    assert calls.create_batch("retry_failed", idempotency_key="k").headers == {"Idempotency-Key": "k"}
