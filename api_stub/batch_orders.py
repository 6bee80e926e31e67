"""From the body of a request to the order of a batch, checked as far as a body alone can be."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from api_stub.batch_schemas import BatchRequest, BatchRun, Given
from worker.batches import accept, prices
from worker.domain.batch import BatchOrder, Kind, Limits, Selection
from worker.domain.principal import Principal
from worker.domain.run import OnBusy
from worker.domain.run_order import RunOrder, validate_time
from worker.domain.text import check_id, check_text
from worker.errors import BatchInvalid
from worker.runs.known_teams import KnownTeams

TAKES = {
    Kind.REFRESH_SUMMARIES: "session_ids",
    Kind.REPLAY_RUNS: "run_ids",
    Kind.RETRY_FAILED: "run_ids",
    Kind.ENQUEUE_RUNS: "requests",
}


def order_of(body: BatchRequest, *, prices_file: Path | None) -> BatchOrder:
    """Return the order that a body holds, with the prices of today.

    Raises:
        InvalidText, InvalidIdentifier, InvalidTime, BatchInvalid
    """
    said = {name: getattr(body.select, name) for name in type(body.select).model_fields}
    for field, value in said.items():
        if isinstance(value, str):
            check_text(value, field=field)
        elif isinstance(value, datetime):
            validate_time(value, field=field)
    if body.name is not None:
        check_id(body.name, field="name")
    return BatchOrder(
        kind=Kind(body.kind),
        select=Selection(**said),
        name=body.name,
        canary=body.canary,
        window=body.window,
        limits=Limits(**body.limits.model_dump(), budget_tokens=body.budget.tokens, budget_cost=body.budget.cost),
        prices=prices.read(prices_file),
        rebuild=body.rebuild,
        execute_tools=body.execute_tools,
    )


def check_no_filter(order: BatchOrder) -> None:
    """Check the filter of an order whose items are given: it names a user at most, and how runs have ended.

    Raises:
        BatchInvalid
    """
    if order.select != Selection(user_id=order.select.user_id, status=order.select.status):
        raise BatchInvalid(field="select", problem="has filters, and its items are given: send the one or the others")


def given_of(body: Given, *, kind: Kind, principal: Principal, known: KnownTeams) -> accept.ExplicitItems | None:
    """Return the items that a body names, of users that *principal* may act for; None: it names none.

    Raises:
        BatchInvalid, InvalidText, InvalidIdentifier, UserForbidden, TeamForbidden, UnknownTeam
    """
    lists = {name: getattr(body, name) for name in ("session_ids", "run_ids", "requests")}
    named = {name: found for name, found in lists.items() if found is not None}
    if not named:
        if body.more:
            raise BatchInvalid(field="more", problem=f"needs {TAKES[kind]!r} to be more than")
        return None
    if set(named) != {TAKES[kind]}:
        found = " and ".join(map(repr, named))
        raise BatchInvalid(field="The items", problem=f"are given as {found}; this kind takes {TAKES[kind]!r}")
    if body.requests is not None:
        return accept.ExplicitItems(requests=_requests(body.requests, principal, known), more=body.more)
    ids: Sequence[str] = body.session_ids or body.run_ids or []
    if not ids:
        raise BatchInvalid(field=TAKES[kind], problem="is empty: name one at least, or leave it out")
    for one in ids:
        check_text(one, field=TAKES[kind])
    return accept.ExplicitItems(ids=ids, more=body.more)


def _requests(said: Sequence[BatchRun], principal: Principal, known: KnownTeams) -> list[accept.Request]:
    found = []
    for one in said:
        if one.custom_id is not None:
            check_id(one.custom_id, field="custom_id")
        principal.check_team(one.team)
        order = RunOrder(
            one.team,
            one.input,
            session_id=one.session_id,
            user_id=principal.acting_for(one.user_id) or "",
            metadata=one.metadata,
            on_busy=OnBusy(one.on_busy),
            not_before=one.not_before,
            timeout=one.timeout,
        )
        found.append(accept.Request(one.custom_id, order))
    for team in {one.team for one in said}:
        check_id(team, field="team")
        known.check(team)
    return found
