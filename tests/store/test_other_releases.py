"""What is kept as JSON, or as a hash, is equal in all releases: during a deploy, old and new processes share it.

The literal values here were written by an earlier release. They never change.
"""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.support.batches import Played
from tests.support.condensing import long_history
from worker.batches import accept
from worker.batches.accept import ExplicitItems
from worker.domain import (
    BatchOrder,
    BatchRun,
    Budget,
    Kind,
    Limits,
    OnBusy,
    Price,
    Priority,
    RunOrder,
    Selection,
    SummaryDraft,
    Usage,
    parse_batch_run,
    parse_order,
)
from worker.domain.batch import order_from_json, order_to_json
from worker.store import summary_jobs
from worker.store.engine import Database
from worker.store.tables import batch_items, runs
from worker.store.tables import summary_jobs as jobs

AT = datetime(2030, 1, 31, 13, tzinfo=timezone(timedelta(hours=1)))
PLAIN = BatchRun("support", "Hello.")
FULL = BatchRun(
    "support",
    "Grüß Gott.",
    session_id="s-42",
    user_id="u-7",
    on_busy=OnBusy.COALESCE,
    custom_id="row-17",
    not_before=AT,
    timeout=120.0,
    metadata={"ticket": 17, "tags": ["a", None, 1.5]},
)
RETRY = RunOrder("support", "Hello.", session_id="s-42", user_id="u-7", timeout=90.5, metadata={"a": {"b": True}})
PLAIN_ROW: dict[str, Any] = {
    "team": "support",
    "input": "Hello.",
    "session_id": None,
    "user_id": "",
    "metadata": {},
    "timeout_s": None,
    "on_busy": "enqueue",
    "not_before": None,
}
FULL_ROW: dict[str, Any] = {
    "team": "support",
    "input": "Grüß Gott.",
    "session_id": "s-42",
    "user_id": "u-7",
    "metadata": {"ticket": 17, "tags": ["a", None, 1.5]},
    "timeout_s": 120.0,
    "on_busy": "coalesce",
    "not_before": "2030-01-31T12:00:00.000000Z",
}

LISTED = BatchOrder(
    kind=Kind.ENQUEUE_RUNS,
    select=Selection(user_id="u-7"),
    name="prompt v2",
    canary="1%",
    window=50,
    limits=Limits(items_per_minute=60),
    budget=Budget(tokens=5_000_000, cost=12.5),
    prices={"support": Price(1, 0.125, 10.0), "*": Price(0.25, 0.25, 2)},
    explicit_items=True,
)
LISTED_ROW: dict[str, Any] = {
    "kind": "enqueue_runs",
    "select": {
        "team": None,
        "team_version": None,
        "user_id": "u-7",
        "tag": None,
        "name": None,
        "status": None,
        "since": None,
        "until": None,
        "summary_below": None,
        "summary_not_by": None,
    },
    "name": "prompt v2",
    "canary": "1%",
    "window": 50,
    "limits": {
        "items_per_minute": 60,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "budget_tokens": 5_000_000,
        "budget_cost": 12.5,
    },
    "prices": {
        "support": {"input": 1, "cached_input": 0.125, "output": 10.0},
        "*": {"input": 0.25, "cached_input": 0.25, "output": 2},
    },
    "given": True,
    "rebuild": False,
    "execute_tools": False,
}
FILTERED = BatchOrder(
    kind=Kind.REPLAY_RUNS,
    select=Selection(team="support", team_version="3f2a9c", tag="vip", status="completed", since=AT),
    execute_tools=True,
)

DRAFT = SummaryDraft(
    "gpt-5-mini",
    "9f86d081",
    40,
    text="A parcel.",
    topics=["parcel"],
    covers_through_seq=12,
    covers_position=3,
    size=900,
    pieces=2,
    usage=Usage(1, 2, 3, 4),
)
DRAFT_ROW: dict[str, Any] = {
    "model": "gpt-5-mini",
    "prompt_hash": "9f86d081",
    "replaces_seq": 40,
    "text": "A parcel.",
    "topics": ["parcel"],
    "covers_seq": 12,
    "covers_position": 3,
    "size": 900,
    "pieces": 2,
    "usage": {"model_calls": 1, "input_tokens": 2, "cached_input_tokens": 3, "output_tokens": 4},
}


@pytest.mark.parametrize(
    ("order", "retry_of", "fingerprint"),
    [
        (RunOrder("support", "Hello."), None, "2477163278f87e78f706c0cb3b05d630375190b585a4e9cdc75ad274611b67e4"),
        (FULL, None, "edf0b2623193353ef6448f9eddc480da63894f687fa23e4d798e9e1e5635c692"),
        (
            RETRY,
            "run_019ab3c4d5e6f708192a3b4c5d6e7f80",
            "1a528e6ff691e22b30cdeb159a3ade4f2e4b095fe64761287b502f86904afe37",
        ),
    ],
    ids=["plain", "full", "retry"],
)
def test_an_idempotency_key_finds_its_run_across_a_deploy(
    order: RunOrder, retry_of: str | None, fingerprint: str
) -> None:
    """An order has the hash that the other release stored with the key."""
    assert order.fingerprint(retry_of=retry_of) == fingerprint


def test_a_number_of_seconds_stays_as_it_was_sent() -> None:
    """The other release hashed 120 and 120.0 as what they are, and an order from the broker may hold either."""
    whole = parse_order({"team": "support", "input": "Hello.", "timeout": 120})

    assert whole.fingerprint() == "b3f0ea2cf6bda666c3e47870bc0133b241413ac70cf07423eb48fac2cd71faac"
    assert whole.fingerprint() != parse_order({"team": "support", "input": "Hello.", "timeout": 120.0}).fingerprint()


@pytest.mark.parametrize(("order", "row"), [(PLAIN, PLAIN_ROW), (FULL, FULL_ROW)], ids=["plain", "full"])
def test_the_run_of_an_item_is_kept_as_the_other_release_keeps_it(
    db: Database, order: BatchRun, row: dict[str, Any]
) -> None:
    """Its fields and values are the same: an old worker begins the items of a new API."""
    batch = Played(db, BatchOrder(kind=Kind.ENQUEUE_RUNS), ExplicitItems(requests=[order]))

    with db.read() as tx:
        stored = tx.execute(select(batch_items.c.request).where(batch_items.c.batch_id == batch.id)).scalar_one()

    assert stored == row


def test_an_item_that_the_other_release_wrote_begins(db: Database) -> None:
    """A new worker begins the items of an old API."""
    batch = Played(db, BatchOrder(kind=Kind.ENQUEUE_RUNS), ExplicitItems(requests=[PLAIN]))
    with db.write() as tx:
        tx.execute(update(batch_items).where(batch_items.c.batch_id == batch.id).values(request=FULL_ROW))

    batch.step()

    with db.read() as tx:
        run = tx.execute(select(runs)).one()
    assert (run.input, run.timeout_s, run.metadata) == (FULL.input, FULL.timeout, FULL.metadata)
    assert run.not_before == AT
    assert run.priority == Priority.BACKGROUND
    assert parse_batch_run(PLAIN_ROW) == BatchRun("support", "Hello.", user_id="")


@pytest.mark.parametrize(
    ("order", "items", "request_hash"),
    [
        (
            LISTED,
            ExplicitItems(requests=[FULL, PLAIN], more=True),
            "ade9ee0e480df424aa55b4234c41403cc908c30a7655875183cd73fe54c07a2c",
        ),
        (FILTERED, None, "8dc0424ae54b5bfc455336adfe22bab77357265d3ee687217f8029696d6cf53b"),
    ],
    ids=["listed", "filtered"],
)
def test_an_idempotency_key_finds_its_batch_across_a_deploy(
    order: BatchOrder, items: ExplicitItems | None, request_hash: str
) -> None:
    """An order of a batch has the hash that the other release stored with the key."""
    assert accept.request_hash(order, items) == request_hash


def test_the_order_of_a_batch_is_kept_as_the_other_release_keeps_it() -> None:
    """Written and read: the budget among the limits, the prices as the price list has them."""
    assert order_to_json(LISTED) == LISTED_ROW
    assert [type(price["input"]) for price in order_to_json(LISTED)["prices"].values()] == [int, float]
    assert order_from_json(LISTED_ROW) == LISTED
    assert order_from_json(order_to_json(FILTERED)) == FILTERED


def test_the_draft_of_a_rebuild_is_kept_as_the_other_release_keeps_it(db: Database) -> None:
    """Either release continues a rebuild of the other."""
    session_pk = long_history(db, pieces=1)
    with db.write() as tx:
        summary_jobs.request_now(tx, session_pk, through_seq=2, rebuild=True)
        job = summary_jobs.claim(tx, session_pk, team="t", owner="w", ttl_s=60)
        assert job is not None
        assert summary_jobs.save_draft(tx, job, DRAFT, ttl_s=60)

        assert tx.execute(select(jobs.c.draft)).scalar_one() == DRAFT_ROW
        request = summary_jobs.requested(tx, job)
        assert request is not None
        assert request.draft == DRAFT
