"""What the body of a request alone shows to be wrong about a batch, and the order that it becomes."""

from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path

from api_stub.batch_schemas import BatchRequest, ExplicitItems
from worker.batches import accept, prices
from worker.domain import BatchOrder, BatchRun, Kind, Principal, Selection, check_id, check_text, validate_time
from worker.errors import BatchInvalid
from worker.runs.enqueue import KnownTeams

LISTS = {
    Kind.REFRESH_SUMMARIES: "session_ids",
    Kind.REPLAY_RUNS: "run_ids",
    Kind.RETRY_FAILED: "run_ids",
    Kind.ENQUEUE_RUNS: "requests",
}


def batch_order(body: BatchRequest, *, prices_file: Path | None) -> BatchOrder:
    """Return the order in a body, with the current prices.

    Raises:
        InvalidText, InvalidIdentifier, InvalidTime, BatchInvalid
    """
    for field in fields(body.select):
        value = getattr(body.select, field.name)
        if isinstance(value, str):
            check_text(value, field=field.name)
        elif isinstance(value, datetime):
            validate_time(value, field=field.name)
    if body.name is not None:
        check_id(body.name, field="name")
    return BatchOrder(
        kind=body.kind,
        name=body.name,
        select=body.select,
        canary=body.canary,
        window=body.window,
        limits=body.limits,
        budget=body.budget,
        rebuild=body.rebuild,
        execute_tools=body.execute_tools,
        prices=prices.read(prices_file),
    )


def check_no_filter(select: Selection) -> None:
    """Check the filter of a batch whose items are listed: only `user_id` and `status` are allowed.

    Raises:
        BatchInvalid
    """
    if select != Selection(user_id=select.user_id, status=select.status):
        raise BatchInvalid(field="'select'", problem="has filters, but the items are listed: send one or the other")


def explicit_items(
    body: ExplicitItems, *, kind: Kind, principal: Principal, known: KnownTeams
) -> accept.ExplicitItems | None:
    """Return the items that a body lists, of users that *principal* may act for; None: it lists none.

    Raises:
        BatchInvalid, InvalidText, InvalidIdentifier, UserForbidden, TeamForbidden, UnknownTeam
    """
    expected = LISTS[kind]
    sent = [name for name in ("session_ids", "run_ids", "requests") if getattr(body, name) is not None]
    if not sent:
        if body.more:
            raise BatchInvalid(field="'more'", problem=f"needs items: give {expected!r}")
        return None
    if sent != [expected]:
        problem = f"are listed as {' and '.join(map(repr, sent))}, but this kind takes {expected!r}"
        raise BatchInvalid(field="The items", problem=problem)
    if body.requests is not None:
        return accept.ExplicitItems(requests=_requests(body.requests, principal, known), more=body.more)
    ids = body.session_ids or body.run_ids
    if not ids:
        raise BatchInvalid(field=repr(expected), problem="is empty: list at least one, or leave it out")
    for id in ids:
        check_text(id, field=expected)
    return accept.ExplicitItems(ids=ids, more=body.more)


def _requests(runs: list[BatchRun], principal: Principal, known: KnownTeams) -> list[BatchRun]:
    """Return the runs with the users that *principal* acts for."""
    for run in runs:
        if run.custom_id is not None:
            check_id(run.custom_id, field="custom_id")
        principal.check_team(run.team)
    requests = [replace(run, user_id=principal.acting_for(run.user_id)) for run in runs]
    for team in {run.team for run in runs}:
        check_id(team, field="team")
        known.check(team)
    return requests
