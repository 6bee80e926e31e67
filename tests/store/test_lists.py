"""Lists, on both databases: complete, in order, and read from an index that holds them in that order."""

import re

import pytest

from tests.support.crowd import Crowd, crowd
from tests.support.plans import plan, statements
from worker.domain.principal import Principal
from worker.domain.run import Run, Status
from worker.store import runs
from worker.store.engine import Database
from worker.store.runs import Wanted

SERVICE = Principal("k")
USER = Principal("k", user_id="u3")
TEAM = Principal("k", teams=frozenset({"t1"}))
BOTH = Principal("k", user_id="u3", teams=frozenset({"t1", "t7"}))
WANTED = {
    "all": (SERVICE, Wanted(), "pk_runs"),
    "of a user": (SERVICE, Wanted(user_id="u3"), "ix_runs_of_user"),
    "of a user's key": (USER, Wanted(), "ix_runs_of_user"),
    "of a team": (SERVICE, Wanted(team="t1"), "ix_runs_of_team"),
    "of a team's key": (TEAM, Wanted(), "ix_runs_of_team"),
    "of a status": (SERVICE, Wanted(status=Status.FAILED), "ix_runs_of_status"),
    "of a session": (USER, Wanted(session_id="s2"), "uq_runs_session_pk_position"),
    "of a session and a status": (USER, Wanted(session_id="s2", status=Status.FAILED), "uq_runs_session_pk_position"),
    "of a user and a team": (BOTH, Wanted(team="t1"), None),
    "of sessions of one id": (SERVICE, Wanted(session_id="s2"), None),
    "under a user's key": (USER, Wanted(idempotency_key="s0/2"), "pk_idempotency"),
    "under any key": (SERVICE, Wanted(idempotency_key="s0/2"), "ix_idempotency_key"),
    "of everything": (BOTH, Wanted("u3", "t1", Status.FAILED, "s1", "s1/9"), None),
}
NOTHING = {
    "under another's key": (Principal("k", user_id="u99"), Wanted(idempotency_key="s0/2")),
    "of nobody": (SERVICE, Wanted(user_id="nobody")),
    "of a session that is not there": (SERVICE, Wanted(session_id="s99")),
    "under a key of another session": (USER, Wanted(session_id="s0", idempotency_key="s1/2")),
    "of another team": (TEAM, Wanted(team="t0")),
}
# SQLite numbers the indexes of keys in the order of the table.
ON_SQLITE = {
    "pk_runs": "autoindex_runs_1",
    "uq_runs_session_pk_position": "autoindex_runs_2 (session_pk=?",
    "pk_idempotency": "autoindex_idempotency_1 (user_id=? AND key=?)",
}


def expected(rows: Crowd, principal: Principal, wanted: Wanted) -> list[str]:
    """Return the ids of the runs that are wanted, newest first, the long way."""
    found = []
    for run in reversed(rows.runs):
        acting = principal.user_id or wanted.user_id
        asked = [(acting, run["user_id"]), (wanted.team, run["team_id"]), (wanted.status, run["status"])]
        asked += [(wanted.session_id, rows.session(run)["session_id"]), (wanted.idempotency_key, rows.key(run))]
        of_team = not principal.teams or run["team_id"] in principal.teams
        if of_team and all(value is None or value == real for value, real in asked):
            found.append(run["id"])
    return found


def pages(db: Database, principal: Principal, wanted: Wanted, *, limit: int) -> list[list[Run]]:
    """Return the pages of a list, up to the first that is not full."""
    found: list[list[Run]] = []
    while not found or len(found[-1]) == limit:
        before = found[-1][-1].id if found else None
        with db.read() as tx:
            found.append(runs.page(tx, wanted, principal=principal, before=before, limit=limit))
    return found


@pytest.mark.parametrize("case", [*WANTED, *NOTHING])
def test_a_list_of_runs_is_complete_in_order_and_without_doubles(db: Database, case: str) -> None:
    """Page by page it holds what the filters name and the key may see, newest first."""
    principal, wanted = (WANTED | NOTHING)[case][:2]
    rows = crowd(db)

    found = pages(db, principal, wanted, limit=5)

    assert [run.id for page in found for run in page] == expected(rows, principal, wanted)
    assert bool(found[0]) == (case in WANTED)


@pytest.mark.parametrize("case", [case for case in WANTED if WANTED[case][2]])
@pytest.mark.parametrize("place", ["the first page", "a later page"])
def test_each_filter_of_runs_is_served_by_an_index(db: Database, case: str, place: str) -> None:
    """A page costs what it shows: it is read from the index in the order of the list, and nothing is sorted.

    What stands under an idempotency key may be sorted: it is one run a user.
    """
    principal, wanted, index = WANTED[case]
    rows = crowd(db, users=100, each=4, runs_each=5)
    before = None if place == "the first page" else rows.runs[1000]["id"]

    with statements(db) as seen, db.read() as tx:
        runs.page(tx, wanted, principal=principal, before=before, limit=51)

    in_order = wanted.idempotency_key is None
    text = "\n".join(line for s, p in seen.items() for line in plan(db, s, p, in_order=in_order))
    assert (ON_SQLITE.get(index, index) if db.is_sqlite else index) in text
    assert not re.search(r"Seq Scan|SCAN (?!main\.runs USING INDEX)", text)
    assert not (in_order and re.search("Sort|TEMP B-TREE", text))
