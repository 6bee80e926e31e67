"""Whose run is it? What a key may see, and that it cannot tell what it may not see from what is not there."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.api.door import Door, check_problem, name
from tests.api.matrix import CASES, KINDS, OF_PENDING_CALLS, OWNERS, ROUTES, Kind, Route, answer
from worker.batches import accept, feed, lifecycle
from worker.batches.accept import ExplicitItems
from worker.domain import BatchOrder, Principal, Selection
from worker.domain import Kind as BatchKind
from worker.settings import Settings
from worker.store import api_keys

Things = dict[str, dict[str, str]]  # whose → the ids of a run, a session, its user and a batch, and the session's tag


@pytest.fixture
def user() -> str:
    return name("u")


@pytest.fixture
def own(door: Door, user: str) -> Iterator[httpx2.Client]:
    """A client with a key of *user*."""
    with door.with_key(door.new_key(user_id=user)) as http:
        yield http


@pytest.fixture(scope="package")
def keys(door: Door) -> dict[str, str]:
    """A key of each kind."""
    made = {kind: make_key(door, who, user=who.user) for kind, who in KINDS.items()}
    revoked = made["a revoked key"]
    with door.system.db.write() as tx:
        api_keys.revoke(tx, revoked.split("_")[1])
    return made | {"no key of ours": "sk-1", "a key with another secret": made["a service key"][:-1] + "!"}


def make_key(door: Door, who: Kind, *, user: str | None) -> str:
    return door.new_key(user_id=user, teams=frozenset(who.teams), scopes=frozenset(who.scopes))


def make_things(door: Door, *, until: str = "written", users: dict[str, str] = OWNERS) -> Things:
    """Return Ada's and Bob's things, whose runs are completed, running or cancelled, and absent ones."""
    absent = {"run_id": "run_" + "0" * 32, "batch_id": "batch_" + "0" * 32}
    things = {"absent": {**absent, "session_id": name("s"), "user_id": name("u"), "tag": name("t")}}
    for whose, team in (("Ada's", "plain"), ("Bob's", "with-tool")):
        ids = {"session_id": name("s"), "user_id": users[whose], "tag": name("t")}
        ids["run_id"] = make_run(door, until, team=team, session_id=ids["session_id"], user_id=ids["user_id"])
        if until in ("completed", "written"):
            door.condense(ids["run_id"], f"It is about {ids['tag']}.")
        assert door.http.patch(f"/v1/sessions/{ids['session_id']}", json={"tags": [ids["tag"]]}).status_code == 200
        things[whose] = {"batch_id": make_batch(door, user=ids["user_id"], team=team), **ids}
    return things


def make_run(door: Door, status: str, **fields: str) -> str:
    """Return a run with a status; 'written' is a completed one that no worker executed, so it has no stream."""
    if status == "written":
        return door.write_completed(**fields)
    later = {"not_before": "2100-01-01T00:00:00Z"} if status == "cancelled" else {}
    run = door.enqueue("[delay=60] go" if status == "running" else "go", **fields, **later)
    if status == "cancelled":
        door.cancel(run["id"])
    door.until(run["id"], status)
    return str(run["id"])


def make_batch(door: Door, *, user: str, team: str, more: bool = True) -> str:
    """Return a batch without items, for a user and by a key of a team. One with *more* to come stays unfinished."""
    db, principal = door.system.db, Principal("", teams=frozenset({team}))
    order = BatchOrder(kind=BatchKind.ENQUEUE_RUNS, select=Selection(user_id=user))
    batch = accept.create(db, order, principal=principal, settings=Settings(), items=ExplicitItems(more=more))
    while not more and lifecycle.get(db, batch.id, principal=principal).finished_at is None:
        feed.step(db, batch.id, settings=Settings(), send=lambda _: None)
    return batch.id


@pytest.fixture(scope="package")
def lasting(door: Door) -> Things:
    """Things for routes that leave them there."""
    return make_things(door, until="completed")


@pytest.mark.parametrize(("kind", "route"), CASES, ids=str)
def test_each_key_meets_at_each_route_what_it_may(
    door: Door, keys: dict[str, str], lasting: Things, kind: str, route: Route
) -> None:
    """What it may not touch stays as it is, and answers byte for byte as what is not there."""
    who, key, things = KINDS[kind], keys[kind], lasting
    cancels, retries, erases = route.path.endswith("/cancel"), route.path.endswith("/retry"), route.method == "DELETE"
    if route.names_one == "batch":
        if cancels or retries:
            pairs = ((whose, "with-tool" if whose == "Bob's" else "plain") for whose in OWNERS)
            made = {w: make_batch(door, user=OWNERS[w], team=team, more=cancels) for w, team in pairs}
            things = {whose: ids | {"batch_id": made.get(whose, ids["batch_id"])} for whose, ids in things.items()}
        cancels = retries = False
    elif route.names_user:
        users = {whose: name("u") for whose in OWNERS}
        things = make_things(door, users=users)
        if who.user is not None:
            own = next((users[whose] for whose, owner in OWNERS.items() if owner == who.user), who.user)
            key = make_key(door, who, user=own)
    elif cancels or retries or erases:
        things = make_things(door, until="running" if cancels else "cancelled" if retries else "written")
    before = {} if route.method == "GET" else {whose: look(door, ids) for whose, ids in things.items()}

    with door.with_key(key) as http:
        if kind == "no key":
            del http.headers["Authorization"]
        order = sorted(things, key=lambda whose: who.shows(route, whose))  # its own last: the key may go with them
        found = {whose: send(http, route, who, things[whose]) for whose in order}

    for whose, ids in things.items():
        status, code = answer(who, route, whose)
        shown = status < 300 and who.shows(route, whose)
        assert found[whose].status_code == status
        if code is not None:
            check_problem(found[whose], status=status, code=code)
        if cancels and shown:
            assert door.ended(ids["run_id"])["status"] == "cancelled"
        elif retries and shown:
            assert door.ended(found[whose].json()["id"])["retry_of"] == ids["run_id"]
        elif erases and shown:
            assert "session_not_found" in look(door, ids)[1]
        elif route.method == "GET" and status < 300 and route.scope is not None:
            told = any(id in found[whose].text for id in (ids["run_id"], ids["tag"], ids["batch_id"]))
            assert told == (shown and not route.of_everybody and not route.path.endswith(("/items", "/results")))
        elif not shown and before:
            assert look(door, ids) == before[whose]
        if route.of_everybody:
            continue  # it changes by being asked
        own = route.names_user and who.user == OWNERS.get(whose)  # whoever may ask is told: there is nothing
        if not shown and not own and (route.names_one or route.names_user or route.method == "GET"):
            assert same(found[whose], found["absent"], ids, things["absent"])
    for whose in OWNERS if cancels else ():
        door.cancel(things[whose]["run_id"])


def send(http: httpx2.Client, route: Route, who: Kind, ids: dict[str, str]) -> httpx2.Response:
    """Ask *route* for a thing."""
    user = {} if who.acts_for is None else {"user_id": who.acts_for}
    body = None if route.body is None else route.body | (user if route.path == "/v1/runs" else {})
    if route.path == "/v1/batches" and body is not None:
        body |= {"select": body["select"] | user}
    query = {field: value.format(**ids) for field, value in route.query.items()}
    query |= user if route.names_user_in_query else {}
    return http.request(route.method, route.path.format(**ids), params=query, json=body)


def look(door: Door, ids: dict[str, str]) -> list[str]:
    """Return a thing as it is, seen by a key that sees everything."""
    paths = (f"/v1/runs/{ids['run_id']}", f"/v1/sessions/{ids['session_id']}", f"/v1/batches/{ids['batch_id']}")
    return [door.http.get(path).text for path in paths]


def same(foreign: httpx2.Response, absent: httpx2.Response, ids: dict[str, str], nobodys: dict[str, str]) -> bool:
    """Tell whether two answers are alike but for the ids that were asked for."""
    body = foreign.text
    for kind, theirs in ids.items():
        body = body.replace(theirs, nobodys[kind])
    headers = [{k: v for k, v in a.headers.items() if k != "date"} for a in (foreign, absent)]
    return (foreign.status_code, body, headers[0]) == (absent.status_code, absent.text, headers[1])


def test_every_route_stands_in_the_matrix(door: Door) -> None:
    """With the scope that its description names; the two probes need no key."""
    paths = door.http.get("/openapi.json").json()["paths"]
    described = {
        (method.upper(), path, *told["security"][0]["key"])
        for path, methods in paths.items()
        for method, told in methods.items()
        if path not in ("/healthz", "/readyz")
    }

    routes = [*ROUTES, *OF_PENDING_CALLS]
    needed = {(route.method, route.path, *filter(None, (route.scope, route.also))) for route in routes}
    assert described == needed


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


def test_a_key_that_only_writes_is_shown_no_text(door: Door) -> None:
    """Neither what others have sent nor what was answered, whichever way it names a run: ids, status and times only."""
    ended = door.ended(door.enqueue("what was said", team="plain")["id"])
    failed = door.cancel(door.enqueue("what was said", not_before="2100-01-01T00:00:00Z")["id"])
    order = {"team": "plain", "input": "what was said", "session_id": name("s")}
    sent = {"Idempotency-Key": name("k")}
    door.ended(door.http.post("/v1/runs", json=order, headers=sent).json()["id"])
    with door.with_key(door.new_key(scopes=frozenset({"runs:write"}))) as http:
        answers = [
            http.post("/v1/runs", json=order, headers=sent),
            http.post(f"/v1/runs/{ended['id']}/cancel"),
            http.post(f"/v1/runs/{failed['id']}/retry"),
        ]

    shown = {"id", "team", "session_id", "user_id", "status", "position", "retry_of", "created_at"}
    assert [(answer.status_code, set(answer.json())) for answer in answers] == [(202, shown)] * 3
    assert [answer.json()["status"] for answer in answers[:2]] == ["completed"] * 2
    assert "said" not in "".join(answer.text for answer in answers)
    door.ended(answers[2].json()["id"])


def test_a_conflict_does_not_tell_what_the_key_may_not_see(door: Door, user: str) -> None:
    """The idempotency key and the session of another team: neither its run nor its name."""
    order = {"team": "with-tool", "input": "x", "session_id": name("s"), "user_id": user}
    sent = {"Idempotency-Key": name("k")}
    hidden = door.http.post("/v1/runs", json=order, headers=sent).json()
    with door.with_key(door.new_key(teams=frozenset({"plain"}))) as http:
        conflicts = [
            http.post("/v1/runs", json=order | {"team": "plain"}, headers=sent),
            http.post("/v1/runs", json=order | {"team": "plain"}),
        ]

    codes = [check_problem(answer, status=409, code=answer.json()["code"])["code"] for answer in conflicts]
    assert codes == ["idempotency_conflict", "session_of_other_team"]
    told = "".join(answer.text for answer in conflicts)
    assert hidden["id"] not in told
    assert "with-tool" not in told
