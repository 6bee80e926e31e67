"""What workers say of themselves: which teams, which versions, how many, on which queues."""

from tests.api.door import Door, name
from worker.store import teams
from worker.store.columns import db_time
from worker.store.tables import teams as table


def test_teams_are_those_of_live_workers(door: Door) -> None:
    """With their versions and queues, and how many workers serve them; any key may ask."""
    silent, twice, workers = name("silent"), name("twice"), [name("w") for _ in range(3)]
    with door.system.db.write() as tx:
        for worker, versions in zip(workers, ({silent: "1"}, {twice: "1"}, {twice: "2"}), strict=True):
            teams.announce(
                tx, worker=worker, versions=versions, queues=["runs"] if versions == {twice: "2"} else ["resumed"]
            )
        tx.execute(table.update().where(table.c.team_id == silent).values(seen_at=db_time(-60)))

    answer = door.http.get("/v1/teams")
    with door.with_key(door.new_key(user_id=name("u"))) as http:
        assert http.get("/v1/teams").json() == answer.json()
    with door.system.db.write() as tx:
        tx.execute(table.delete().where(table.c.worker.in_(workers)))

    live_teams = {team["team"]: team for team in answer.json()["data"]}
    assert answer.json()["next_cursor"] is None
    assert list(live_teams) == sorted(live_teams)
    assert {"plain", "slow-tool", "waits", "with-tool"} == set(live_teams) - {twice}
    assert live_teams["plain"].items() >= {"workers": 1, "queues": ["batch", "resumed", "runs"]}.items()
    assert len(live_teams["plain"]["versions"]) == 1
    assert live_teams[twice] == {"team": twice, "versions": ["1", "2"], "workers": 2, "queues": ["resumed", "runs"]}


def test_a_teams_key_sees_its_teams(door: Door) -> None:
    """And does not hear of others."""
    with door.with_key(door.new_key(teams=frozenset({"plain", "nobody"}))) as http:
        assert [team["team"] for team in http.get("/v1/teams").json()["data"]] == ["plain"]


def test_a_run_says_which_version_of_its_team_executed_it(door: Door) -> None:
    """As the list of teams names it; before the first claim there is none."""
    waiting = door.enqueue(not_before="2100-01-01T00:00:00Z")
    ended = door.ended(door.enqueue()["id"])
    versions = {team["team"]: team["versions"] for team in door.http.get("/v1/teams").json()["data"]}
    door.cancel(waiting["id"])

    assert waiting["team_version"] is None
    assert [ended["team_version"]] == versions["plain"]
