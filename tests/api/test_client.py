"""Both clients at the real door, and through a proxy that breaks their connections."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select

from api_stub.client import Event, RequestFailed
from api_stub.client.types import Team
from tests.api.door import Door, name
from tests.support.clients import KINDS, Connect
from tests.support.proxy import proxy
from worker.store import tables


def events_of(door: Door, run_id: str) -> list[Event]:
    """Return a run's events as they are told to who is not disturbed."""
    return [Event(event.id, event.type, event.data) for event in door.events(run_id)]


def runs_in(door: Door, session_id: str) -> int:
    """Return how many runs stand in all sessions of an id."""
    joined = tables.runs.join(tables.sessions)
    count = select(func.count()).select_from(joined).where(tables.sessions.c.session_id == session_id)
    with door.system.db.read() as tx:
        return int(tx.execute(count).scalar_one())


def test_a_conversation_from_its_first_word_to_its_history(door: Door, connect: Connect) -> None:
    """Enqueue, watch, wait, look, list; the second enqueue with a key finds the run of the first."""
    client = connect(door.system.url, door.system.key)
    made: dict[str, Any] = {"session_id": name("s"), "user_id": name("u"), "metadata": {"a": 1}}

    run = client.enqueue("plain", "I am Ada 🦉", **made, idempotency_key=name("k"))
    events = list(client.stream(run["id"], user_id=made["user_id"]))
    ended = client.wait(run["id"])

    assert {k: run[k] for k in made} == made
    assert (ended["status"], ended["position"]) == ("completed", 1)
    assert client.run(run["id"]) == client.run(run["id"], wait_s=5) == ended == events[-1].data
    assert events == events_of(door, run["id"])
    assert list(client.stream(run["id"], after=events[2].id)) == events[3:]
    history = list(client.messages(made["session_id"], user_id=made["user_id"]))
    assert [m["content"] for m in history] == ["I am Ada 🦉", ended["output"]]
    roles = client.messages(made["session_id"], user_id=made["user_id"], role="assistant")
    assert list(roles) == history[1:]


def test_a_run_is_cancelled(door: Door, connect: Connect) -> None:
    """While somebody waits for it in vain, and again when it has ended."""
    client = connect(door.system.url, door.system.key)
    run = client.enqueue("plain", "[delay=60] go")

    with pytest.raises(TimeoutError):
        client.wait(run["id"], timeout_s=0.2)
    client.cancel(run["id"])
    ended = client.wait(run["id"])

    assert ended["status"] == "cancelled"
    assert client.cancel(run["id"]) == ended
    assert list(client.stream(run["id"]))[-1] == Event(f"{events_of(door, run['id'])[-1].id}", "run.cancelled", ended)


def test_runs_are_listed_and_found_by_their_key(door: Door, connect: Connect) -> None:
    """Newest first, over all pages; by what they are of; a session's own in the same order."""
    client, user, key = connect(door.system.url, door.system.key), name("u"), name("k")
    made = [client.enqueue("plain", "x", session_id="a", user_id=user, idempotency_key=f"{key}{n}") for n in range(3)]
    ended = [client.wait(run["id"]) for run in made]
    other = client.wait(client.enqueue("with-tool", "x", session_id="b", user_id=user)["id"])

    assert list(client.runs(user_id=user)) == [other, *reversed(ended)]
    assert list(client.runs(user_id=user, team="with-tool", status="completed")) == [other]
    assert list(client.runs(user_id=user, session_id="a")) == ended[::-1]
    assert list(client.runs(user_id=user, idempotency_key=f"{key}1")) == [ended[1]]
    assert list(client.runs(user_id=user, status="failed")) == []
    assert list(client.session_runs("a", user_id=user)) == ended[::-1]


def test_lists_are_whole_over_many_pages(door: Door) -> None:
    """More sessions and runs than one page holds: each once, for both clients."""
    user = name("u")
    with ThreadPoolExecutor(8) as pool:
        ids = {run["id"] for run in pool.map(lambda n: door.enqueue(session_id=f"s{n}", user_id=user), range(205))}
    door.rows()

    for kind in KINDS:
        client = kind(door.system.url, door.system.key)
        assert sorted(s["id"] for s in client.sessions(user_id=user)) == sorted(f"s{n}" for n in range(205))
        listed = [run["id"] for run in client.runs(user_id=user)]
        assert (len(listed), set(listed)) == (205, ids)
        client.close()


def test_a_session_is_found_changed_and_deleted(door: Door, connect: Connect) -> None:
    """Given fields replace, None removes, the rest stays; a session that was deleted is gone."""
    client, user = connect(door.system.url, door.system.key), name("u")
    run = client.wait(client.enqueue("plain", "x", session_id="s", user_id=user)["id"])

    first = client.update_session("s", name="N", description="D", tags=["a", "b"], metadata={"m": 1}, user_id=user)
    then = client.update_session("s", description=None, tags=[], user_id=user)

    assert (first["name"], first["description"], first["tags"], first["metadata"]) == ("N", "D", ["a", "b"], {"m": 1})
    assert (then["name"], then["description"], then["tags"], then["metadata"]) == ("N", None, [], {"m": 1})
    assert client.session("s", user_id=user) == then
    assert (then["run_count"], then["message_count"]) == (1, 2)
    assert list(client.sessions(user_id=user, team="plain", name="N")) == [then]
    assert list(client.sessions(user_id=user, tag="a")) == []
    client.delete_session("s", user_id=user)
    for gone in (client.session, client.delete_session):
        with pytest.raises(RequestFailed) as refused:
            gone("s", user_id=user)
        assert refused.value.code == "session_not_found"
    with pytest.raises(RequestFailed, match="There is no run"):
        client.run(run["id"])


def test_a_deletion_whose_answer_is_lost_is_done(door: Door, connect: Connect) -> None:
    """It has arrived, and its answer broke: that the session is gone by now is what was asked for."""
    user = name("u")
    door.ended(door.enqueue(session_id="s", user_id=user)["id"])

    with proxy(door.system.url, [0]) as broken:
        connect(broken.url, door.system.key).delete_session("s", user_id=user)

    assert broken.broken == 1
    assert list(connect(door.system.url, door.system.key).sessions(user_id=user)) == []


def test_teams_are_told(door: Door, connect: Connect) -> None:
    """Those that live workers serve, with what is said of each."""
    served = list(connect(door.system.url, door.system.key).teams())

    assert {"plain", "with-tool", "slow-tool"} <= {team["team"] for team in served}
    assert all(set(team) == set(Team.__annotations__) and team["workers"] == 1 for team in served)


def test_why_a_run_waits_is_told(door: Door, connect: Connect) -> None:
    """With the facts of the reason beside it."""
    client = connect(door.system.url, door.system.key)
    head = client.enqueue("plain", "[delay=60] go")
    behind = client.enqueue("plain", "x", session_id=head["session_id"])

    events_of = client.why(behind["id"])
    client.cancel(head["id"])

    assert (events_of["run_id"], events_of["status"], events_of["reason"]) == (behind["id"], "queued", "behind_run")
    assert events_of["behind_run_id"] == head["id"]
    assert client.why(client.wait(behind["id"])["id"])["reason"] == "finished"


def test_a_user_is_exported_and_erased(door: Door, connect: Connect) -> None:
    """Line by line, over a connection that broke at first; then nothing is left of them."""
    user = name("u")
    run = door.ended(door.enqueue("Ünique", session_id="s", user_id=user)["id"])

    with proxy(door.system.url, [0, 100]) as broken:
        client = connect(broken.url, door.system.key)
        lines = list(client.export_user(user))
        erased = client.erase_user(user)

    assert broken.broken == 2
    assert [line["type"] for line in lines] == ["session", "run", "message", "message"]
    assert (lines[1]["id"], lines[2]["content"]) == (run["id"], "Ünique")
    assert (erased["sessions"], erased["runs"], erased["messages"]) == (1, 1, 2)
    assert list(connect(door.system.url, door.system.key).export_user(user)) == []


def test_a_summary_is_asked_for(door: Door, connect: Connect) -> None:
    """There is none yet, and a refresh of it waits for a worker of its queue, which does not run here."""
    client, user = connect(door.system.url, door.system.key), name("u")
    client.wait(client.enqueue("plain", "x", session_id="s", user_id=user)["id"])

    with pytest.raises(RequestFailed) as refused:
        client.summary("s", user_id=user)
    requested = client.refresh_summary("s", user_id=user)

    assert refused.value.code == "summary_not_found"
    assert requested["refresh"]["status"] == "waiting"
    assert client.refresh_summary("s", user_id=user) == requested


def test_a_summary_that_covers_everything_can_be_made_anew(door: Door, connect: Connect) -> None:
    """A refresh of it would find nothing to do; a rebuild waits for a worker."""
    client, user = connect(door.system.url, door.system.key), name("u")
    run = client.wait(client.enqueue("plain", "x", session_id="s", user_id=user)["id"])
    door.condense(run["id"], "so far")

    refreshed = client.refresh_summary("s", user_id=user)
    rebuilt = client.refresh_summary("s", rebuild=True, user_id=user)

    assert refreshed["refresh"] is None
    assert rebuilt["refresh"]["status"] == "waiting"
    assert client.summary("s", user_id=user)["refresh"] == rebuilt["refresh"]


def test_refusals_have_the_codes_of_the_api(door: Door, connect: Connect) -> None:
    """Of a request, of a list and of a stream; nothing of them is tried again."""
    client = connect(door.system.url, door.system.key)
    stranger = connect(door.system.url, "no-key-of-this-api")
    key = name("k")
    client.enqueue("plain", "one", idempotency_key=key)

    def code(call: Any, *arguments: Any, **options: Any) -> tuple[int, str]:
        with pytest.raises(RequestFailed) as refused:
            list(call(*arguments, **options))
        return refused.value.status, refused.value.code

    assert code(client.enqueue, "plain", "other", idempotency_key=key) == (409, "idempotency_conflict")
    assert code(client.enqueue, "no-such-team", "x") == (404, "unknown_team")
    assert code(client.enqueue, "plain", "a\ud800b") == (422, "invalid_text")
    assert code(client.enqueue, "plain", "x", metadata={"a": float("nan")})[0] == 422
    assert code(client.run, "nothing") == (404, "run_not_found")
    assert code(client.messages, "nothing") == (404, "session_not_found")
    assert code(client.stream, "nothing") == (404, "run_not_found")
    assert code(stranger.run, "nothing") == (401, "key_invalid")


@pytest.mark.parametrize("id", ["..", ".", "a?b#c&d=e", "ü 100%", "a.b", "%2e%2e"])
def test_any_session_is_found_again(door: Door, connect: Connect, id: str) -> None:
    """Whatever its id means in an address."""
    client, user = connect(door.system.url, door.system.key), name("u")

    run = client.enqueue("plain", "here", session_id=id, user_id=user)

    assert client.wait(run["id"])["session_id"] == id
    assert next(iter(client.messages(id, user_id=user)))["content"] == "here"


def test_an_enqueue_whose_answers_are_lost_makes_one_run(door: Door, connect: Connect) -> None:
    """The order arrived each time; its answer broke before its first byte, in its head, in its body."""
    session = name("s")

    with proxy(door.system.url, [0, 40, 300]) as broken:
        run = connect(broken.url, door.system.key).enqueue("plain", "once", session_id=session)

    assert broken.broken == 3
    assert runs_in(door, session) == 1
    assert door.ended(run["id"])["position"] == 1


def test_a_stream_is_whole_though_its_connections_break(door: Door, connect: Connect) -> None:
    """A run with tools, watched live over dozens of connections, then its history, page by page."""
    run = door.enqueue("[steps=2] [words=40] [pace=0.02] go", team="with-tool")

    with proxy(door.system.url, itertools.cycle([350, 500, 800, 3000])) as broken:
        client = connect(broken.url, door.system.key)
        events = list(client.stream(run["id"]))

    assert broken.broken > 5
    assert events == events_of(door, run["id"])
    assert events[-1].type == "run.completed"
