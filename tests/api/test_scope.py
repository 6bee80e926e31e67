"""Whose run is it? What a key may see, and that it cannot tell what it may not see from what is not there."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.api.door import Door, check_problem, name

READS = [
    ("GET", "/v1/runs/{run}"),
    ("GET", "/v1/runs/{run}?wait=1"),
    ("GET", "/v1/runs/{run}/events"),
    ("POST", "/v1/runs/{run}/cancel"),
    ("GET", "/v1/sessions/{session}/messages"),
]


@pytest.fixture
def user() -> str:
    return name("u")


@pytest.fixture
def own(door: Door, user: str) -> Iterator[httpx2.Client]:
    """A client with a key of *user*."""
    with door.with_key(door.new_key(user_id=user)) as http:
        yield http


def ask(http: httpx2.Client, what: tuple[str, str], *, run: str, session: str, **params: str) -> httpx2.Response:
    method, path = what
    return http.request(method, httpx2.URL(path.format(run=run, session=session)).copy_merge_params(params))


def same(foreign: httpx2.Response, absent: httpx2.Response, ids: list[tuple[str, str]]) -> bool:
    """Tell whether two answers are alike but for the ids that were asked for."""
    body = foreign.content
    for theirs, nobodys in ids:
        body = body.replace(theirs.encode(), nobodys.encode())
    headers = [{k: v for k, v in a.headers.items() if k not in ("date", "content-length")} for a in (foreign, absent)]
    return (foreign.status_code, body, headers[0]) == (absent.status_code, absent.content, headers[1])


@pytest.mark.parametrize("what", READS, ids=" ".join)
@pytest.mark.parametrize("asked_by", ["a user's key", "a service key for another user"])
def test_what_is_foreign_answers_as_what_is_absent(
    door: Door, own: httpx2.Client, user: str, what: tuple[str, str], asked_by: str
) -> None:
    """Byte for byte, and nothing happens to it."""
    foreign = door.enqueue("[delay=0.3] go", user_id=name("u"), session_id=name("s"))
    absent = {"run": "run_" + "0" * 32, "session": name("s")}
    http, params = (own, {}) if asked_by == "a user's key" else (door.http, {"user_id": user})

    answer = ask(http, what, run=foreign["id"], session=foreign["session_id"], **params)
    nothing = ask(http, what, **absent, **params)

    code = "run_not_found" if "{run}" in what[1] else "session_not_found"
    check_problem(nothing, status=404, code=code)
    assert same(answer, nothing, [(foreign["id"], absent["run"]), (foreign["session_id"], absent["session"])])
    assert door.ended(foreign["id"])["status"] == "completed"


@pytest.mark.parametrize("what", READS, ids=" ".join)
def test_a_users_key_names_no_other_user(door: Door, own: httpx2.Client, user: str, what: tuple[str, str]) -> None:
    """It may name its own; for another it is told 403, whether or not the thing is there."""
    run = door.ended(door.enqueue(user_id=user)["id"])
    ids = {"run": run["id"], "session": run["session_id"]}

    check_problem(ask(own, what, **ids, user_id=name("u")), status=403, code="user_forbidden")
    check_problem(ask(own, what, **ids, user_id=""), status=403, code="user_forbidden")
    check_problem(ask(own, what, run="absent", session="absent", user_id="x"), status=403, code="user_forbidden")
    assert ask(own, what, **ids).is_success
    assert ask(own, what, **ids, user_id=user).is_success


def test_a_users_key_enqueues_for_its_user_only(door: Door, own: httpx2.Client, user: str) -> None:
    """Without a name, and with its own; the same session id of another user is another session."""
    order = {"team": "plain", "input": "x", "session_id": name("s")}
    door.enqueue(**order, user_id=name("u"))

    runs = [own.post("/v1/runs", json=order).json(), own.post("/v1/runs", json=order | {"user_id": user}).json()]

    assert [(run["user_id"], run["position"]) for run in runs] == [(user, 1), (user, 2)]
    before = door.rows()
    for other in ("", name("u")):
        answer = own.post("/v1/runs", json=order | {"user_id": other})
        check_problem(answer, status=403, code="user_forbidden")
    assert door.rows() == before


def test_a_service_key_acts_for_whom_it_names(door: Door) -> None:
    """It sees every user where it names none; a session id that two users have is then ambiguous."""
    session, users = name("s"), [name("u"), name("u"), ""]
    path = f"/v1/sessions/{session}/messages"
    runs = [door.ended(door.enqueue(f"I am {n}", session_id=session, user_id=users[0])["id"]) for n in ("A", "B")]
    alone = door.http.get(path)
    runs += [door.ended(door.enqueue("I am C", session_id=session, user_id=user)["id"]) for user in users[1:]]

    assert [m["run_id"] for m in alone.json()["data"][::2]] == [run["id"] for run in runs[:2]]
    check_problem(door.http.get(path), status=409, code="ambiguous_session")
    for user, inputs in zip(users, (["I am A", "I am B"], ["I am C"], ["I am C"]), strict=True):
        found = door.http.get(path, params={"user_id": user, "role": "user"}).json()["data"]
        assert [(m["content"], m["author"]) for m in found] == [(text, user) for text in inputs]


def test_a_teams_key_enqueues_for_its_team_only(door: Door) -> None:
    """For another team it is told 403, whether or not anybody serves it."""
    with door.with_key(door.new_key(teams=frozenset({"plain"}))) as http:
        before = door.rows()
        for team in ("with-tool", "nobody"):
            answer = http.post("/v1/runs", json={"team": team, "input": "x"})
            check_problem(answer, status=403, code="team_forbidden")
        assert door.rows() == before

        assert http.post("/v1/runs", json={"team": "plain", "input": "x"}).status_code == 202


@pytest.mark.parametrize("what", READS, ids=" ".join)
def test_a_teams_key_sees_its_team_only(door: Door, what: tuple[str, str]) -> None:
    """Another team's runs and sessions answer it as absent ones."""
    foreign = door.ended(door.enqueue(team="with-tool")["id"])

    with door.with_key(door.new_key(teams=frozenset({"plain"}))) as http:
        answer = ask(http, what, run=foreign["id"], session=foreign["session_id"])

    assert answer.status_code in (403, 404)
