"""Both clients and batches, at the real door and through a proxy that breaks their connections."""

from typing import Any

import pytest

from api_stub.client import RequestFailed, types
from tests.api.door import Door, name
from tests.support.clients import Connect
from tests.support.proxy import proxy
from tests.support.system import wait_until

SHAPES = [(types.Batch, "Batch"), (types.Counts, "Counts"), (types.Item, "Item"), (types.Estimate, "Estimate")]
SHAPES += [(types.Selection, "Selection"), (types.Limits, "Limits"), (types.Budget, "Budget")]
SHAPES += [(types.BatchRun, "BatchRun")]


def finished(client: Any, batch_id: str) -> Any:
    """Return a batch once it has ended."""

    def ended() -> Any:
        batch = client.batch(batch_id)
        return batch if batch["finished_at"] else None

    return wait_until(ended, description="the batch has ended", timeout_s=120)


def test_a_batch_is_ordered_in_chunks_whose_answers_are_lost(batch_door: Door, connect: Connect) -> None:
    """Each has arrived, and is sent again: one batch, each item once. It is found, told and retried by the client."""
    user = name("u")
    requests: list[types.BatchRun] = [{"team": "plain", "input": f"I am A{n}", "custom_id": f"r{n}"} for n in range(4)]

    with proxy(batch_door.system.url, [0, 100]) as first:
        client = connect(first.url, batch_door.system.key)
        batch = client.create_batch("enqueue_runs", select={"user_id": user}, requests=requests[:2], more=True)
    with proxy(batch_door.system.url, [0, 100]) as second:
        connect(second.url, batch_door.system.key).add_to_batch(batch["id"], first=3, requests=requests[2:])
    client = connect(batch_door.system.url, batch_door.system.key)
    ended = finished(client, batch["id"])

    assert (first.broken, second.broken) == (2, 2)
    assert list(client.batches(user_id=user)) == [ended]
    assert ended["items"]["completed"] == ended["items"]["planned"] == 4
    items = list(client.batch_items(batch["id"]))
    assert [item["custom_id"] for item in items] == ["r0", "r1", "r2", "r3"]
    assert list(client.batch_items(batch["id"], status="failed")) == []
    results = list(client.batch_results(batch["id"]))
    assert [{key: line[key] for key in items[0]} for line in results] == items
    assert [line["new_output"] for line in results] == [client.run(item["run_id"])["output"] for item in items]
    assert client.retry_batch(batch["id"])["items"] == ended["items"]


def test_a_batch_is_estimated_paused_resumed_and_cancelled(batch_door: Door, connect: Connect) -> None:
    """Each answers with the batch as it is now."""
    client, user = connect(batch_door.system.url, batch_door.system.key), name("u")
    batch = client.create_batch("enqueue_runs", select={"user_id": user}, requests=[], more=True)

    estimate = client.estimate_batch("replay_runs", select={"user_id": user})
    statuses = [
        client.pause_batch(batch["id"])["status"],
        client.resume_batch(batch["id"], budget={"tokens": 5})["status"],
        client.cancel_batch(batch["id"])["status"],
    ]

    assert estimate == {"count": 0, "sample": [], "input_tokens": 0, "output_tokens": 0, "cost": 0.0}
    assert statuses == ["paused", "created", "cancelled"]
    assert finished(client, batch["id"])["budget"]["tokens"] == 5
    with pytest.raises(RequestFailed) as refused:
        client.pause_batch(batch["id"])
    assert (refused.value.status, refused.value.code) == (409, "batch_conflict")


@pytest.mark.parametrize(("shape", "described"), SHAPES, ids=lambda value: str(value)[-12:])
def test_what_the_client_returns_is_what_the_api_describes(batch_door: Door, shape: type, described: str) -> None:
    """Field by field."""
    schemas = batch_door.http.get("/openapi.json").json()["components"]["schemas"]

    assert set(shape.__annotations__) == set(schemas[described]["properties"])
