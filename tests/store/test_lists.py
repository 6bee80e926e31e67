"""Lists, on both databases: complete, in order, and read from an index that holds them in that order."""

import re

import pytest
from sqlalchemy import func, select

from tests.support.crowd import Crowd, crowd
from tests.support.plans import plan, statements
from worker.domain import Principal, Run, SessionRow, Status
from worker.store import Database, RunFilters, erasure, runs, sessions, tables

SERVICE = Principal("k")
USER = Principal("k", user_id="u3")
TEAM = Principal("k", teams=frozenset({"t1"}))
BOTH = Principal("k", user_id="u3", teams=frozenset({"t1", "t7"}))
BY_POSITION = "uq_runs_session_pk_position"
WANTED = {
    "all": (SERVICE, RunFilters(), "pk_runs"),
    "of a user": (SERVICE, RunFilters(user_id="u3"), "ix_runs_of_user"),
    "of a user's key": (USER, RunFilters(), "ix_runs_of_user"),
    "of a team": (SERVICE, RunFilters(team="t1"), "ix_runs_of_team"),
    "of a team's key": (TEAM, RunFilters(), "ix_runs_of_team"),
    "of a status": (SERVICE, RunFilters(status=Status.FAILED), "ix_runs_of_status"),
    "of a session": (USER, RunFilters(session_id="s2"), BY_POSITION),
    "of a session and a status": (
        USER,
        RunFilters(session_id="s2", status=Status.FAILED),
        BY_POSITION,
    ),
    "of a user and a team": (BOTH, RunFilters(team="t1"), None),
    "of sessions of one id": (SERVICE, RunFilters(session_id="s2"), None),
    "under a user's key": (USER, RunFilters(idempotency_key="s0/2"), "pk_idempotency"),
    "under any key": (SERVICE, RunFilters(idempotency_key="s0/2"), "ix_idempotency_key"),
    "of everything": (BOTH, RunFilters("u3", "t1", Status.FAILED, "s1", "s1/9"), None),
}
NOTHING = {
    "under another's key": (Principal("k", user_id="u99"), RunFilters(idempotency_key="s0/2")),
    "of nobody": (SERVICE, RunFilters(user_id="nobody")),
    "of a session that is not there": (SERVICE, RunFilters(session_id="s99")),
    "under a key of another session": (USER, RunFilters(session_id="s0", idempotency_key="s1/2")),
    "of another team": (TEAM, RunFilters(team="t0")),
}
# SQLite numbers the indexes of keys in the order of the table.
ON_SQLITE = {
    "pk_runs": "autoindex_runs_1",
    BY_POSITION: "autoindex_runs_2 (session_pk=?",
    "pk_idempotency": "autoindex_idempotency_1 (user_id=? AND key=?)",
}


def expected(rows: Crowd, principal: Principal, filters: RunFilters) -> list[str]:
    """Return the ids of the matching runs, newest first, computed from the rows."""
    found = []
    for run in reversed(rows.runs):
        acting = principal.user_id or filters.user_id
        asked = [(acting, run["user_id"]), (filters.team, run["team_id"]), (filters.status, run["status"])]
        asked += [(filters.session_id, rows.session(run)["session_id"]), (filters.idempotency_key, rows.key(run))]
        of_team = not principal.teams or run["team_id"] in principal.teams
        if of_team and all(value is None or value == real for value, real in asked):
            found.append(run["id"])
    return found


def pages(db: Database, principal: Principal, filters: RunFilters, *, limit: int) -> list[list[Run]]:
    """Return the pages of a list, up to the first that is not full."""
    found: list[list[Run]] = []
    while not found or len(found[-1]) == limit:
        before = found[-1][-1].id if found else None
        with db.read() as tx:
            found.append(runs.page(tx, filters, principal=principal, before=before, limit=limit))
    return found


@pytest.mark.parametrize("case", [*WANTED, *NOTHING])
def test_a_list_of_runs_is_complete_in_order_and_without_doubles(db: Database, case: str) -> None:
    """The pages hold all runs that match the filters and that the key may see, newest first."""
    principal, filters = (WANTED | NOTHING)[case][:2]
    rows = crowd(db)

    found = pages(db, principal, filters, limit=5)

    assert [run.id for page in found for run in page] == expected(rows, principal, filters)
    assert bool(found[0]) == (case in WANTED)


@pytest.mark.parametrize("case", [case for case in WANTED if WANTED[case][2]])
@pytest.mark.parametrize("place", ["the first page", "a later page"])
def test_each_filter_of_runs_is_served_by_an_index(db: Database, case: str, place: str) -> None:
    """A page is read from the index in the order of the list, and nothing is sorted.

    What stands under an idempotency key may be sorted: it is one run a user.
    """
    principal, filters, index = WANTED[case]
    rows = crowd(db, users=100, each=4, runs_each=5)
    before = None if place == "the first page" else rows.runs[1000]["id"]

    with statements(db) as seen, db.read() as tx:
        runs.page(tx, filters, principal=principal, before=before, limit=51)

    in_order = filters.idempotency_key is None
    text = "\n".join(line for s, p in seen.items() for line in plan(db, s, p, in_order=in_order))
    assert (ON_SQLITE.get(index, index) if db.is_sqlite else index) in text
    assert not re.search(r"Seq Scan|SCAN (?!main\.runs USING INDEX)", text)
    assert not (in_order and re.search("Sort|TEMP B-TREE", text))


@pytest.mark.parametrize(
    "filters", [RunFilters(), RunFilters(user_id="u3"), RunFilters(team="t1"), RunFilters(status=Status.QUEUED)]
)
def test_replays_cost_a_list_of_runs_nothing(db: Database, filters: RunFilters) -> None:
    """However many there are, they sort before the index range that a page reads."""
    crowd(db, users=100, each=4, runs_each=5)

    with statements(db) as seen, db.read() as tx:
        runs.page(tx, filters, principal=SERVICE, before=None, limit=51)

    text = "\n".join(line for s, p in seen.items() for line in plan(db, s, p, in_order=True))
    assert re.search(r"id>\?" if db.is_sqlite else r"Index Cond: .*\(id\)::text >= 'run'", text)


SESSIONS = {
    "all": (SERVICE, sessions.SessionFilters()),
    "of a user": (SERVICE, sessions.SessionFilters(user_id="u3")),
    "of a user's key": (USER, sessions.SessionFilters()),
    "of a team": (SERVICE, sessions.SessionFilters(team="t1")),
    "of a team's key": (TEAM, sessions.SessionFilters()),
    "of a user in a team": (BOTH, sessions.SessionFilters(team="t1")),
    "of a name": (SERVICE, sessions.SessionFilters(name="n1")),
    "with a tag": (SERVICE, sessions.SessionFilters(tag="tag 2")),
    "with a tag that all have": (USER, sessions.SessionFilters(tag="ä\"'%")),
    "of everything": (BOTH, sessions.SessionFilters("u3", "t1", "n0", "tag 0")),
}
NO_SESSIONS = {
    "of nobody": (SERVICE, sessions.SessionFilters(user_id="nobody")),
    "with half a tag": (SERVICE, sessions.SessionFilters(tag="tag")),
    "with a pattern": (SERVICE, sessions.SessionFilters(tag="tag %")),
    "of another team": (TEAM, sessions.SessionFilters(team="t0")),
    "with a tag, of another user": (Principal("k", user_id="u99"), sessions.SessionFilters(tag="tag 2")),
}


@pytest.mark.parametrize("case", [*SESSIONS, *NO_SESSIONS])
def test_a_list_of_sessions_is_complete_in_order_and_without_doubles(db: Database, case: str) -> None:
    """Latest activity first; at the same time, the newest session first."""
    principal, filters = (SESSIONS | NO_SESSIONS)[case]
    rows = crowd(db)

    found: list[list[tuple[int, SessionRow]]] = []
    while not found or len(found[-1]) == 3:
        before = (found[-1][-1][1].updated_at, found[-1][-1][0]) if found else None
        with db.read() as tx:
            found.append(sessions.active(tx, filters, principal=principal, before=before, limit=3))

    acting = principal.user_id or filters.user_id
    expected = [
        row["pk"]
        for row in sorted(rows.sessions, key=lambda row: (row["updated_at"], row["pk"]), reverse=True)
        if (not principal.teams or row["team_id"] in principal.teams)
        and all(
            asked in (None, real)
            for asked, real in [(acting, row["user_id"]), (filters.team, row["team_id"]), (filters.name, row["name"])]
        )
        and (filters.tag is None or filters.tag in row["tags"])
    ]
    assert [pk for page in found for pk, _ in page] == expected
    assert bool(expected) == (case in SESSIONS)


@pytest.mark.parametrize("case", ["all", "of a user", "of a user's key", "with a tag that all have", "of a name"])
@pytest.mark.parametrize("place", ["the first page", "a later page"])
def test_a_page_of_sessions_is_read_from_an_index(db: Database, case: str, place: str) -> None:
    """The index has the order of the list: of one user's sessions, or of all."""
    principal, filters = SESSIONS[case]
    rows = crowd(db, users=100, each=10, runs_each=1)
    before = None if place == "the first page" else (rows.sessions[500]["updated_at"], 500)

    with statements(db) as seen, db.read() as tx:
        sessions.active(tx, filters, principal=principal, before=before, limit=51)

    text = "\n".join(line for s, p in seen.items() for line in plan(db, s, p, in_order=True))
    assert ("ix_sessions_active_of_user" if "user" in case or principal is USER else "ix_sessions_active") in text
    assert not re.search(r"Sort|TEMP B-TREE|Seq Scan|SCAN main\.sessions(?! USING INDEX)", text)


def test_a_session_is_found_by_its_id_alone(db: Database) -> None:
    """A service key names no user: every session of that id is read, and no other."""
    crowd(db)

    with statements(db) as seen, db.read() as tx:
        found = sessions.find(tx, session_id="s2", principal=SERVICE, user_id=None)

    assert len(found) == 2
    assert "ix_sessions_session_id" in "\n".join(line for s, p in seen.items() for line in plan(db, s, p))


def test_erasing_a_session_goes_through_no_table(db: Database) -> None:
    """Its rows are found by an index, and nothing else is deleted."""
    rows = crowd(db)

    with statements(db) as seen, db.write() as tx:
        streaming = erasure.erase_session(tx, 4).streaming

    lines = {s: plan(db, s, p) for s, p in seen.items()}
    assert not [line for found in lines.values() for line in found if re.search(r"Seq Scan|SCAN main", line)], lines
    assert list(streaming) == [run["id"] for run in rows.runs if run["session_pk"] == 4]
    kept = (tables.sessions, tables.runs, tables.idempotency)
    with db.read() as tx:
        left = [tx.execute(select(func.count()).select_from(table)).scalar_one() for table in kept]
    assert left == [len(rows.sessions) - 1, len(rows.runs) - 10, len(rows.runs) - 10]
