"""Keys: what they may do, how they are made, shown, exchanged and ended, and who hears of a denial."""

import hashlib
import json
import re
import sys
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert

from tests.api.door import Door, check_problem, name
from tests.support.system import wait_until
from worker.cli.main import main
from worker.domain import Principal, Scope
from worker.domain.principal import NOT_BY_DEFAULT
from worker.errors import ScopeMissing
from worker.store import tables
from worker.store.columns import db_time

ORDER = {"team": "plain", "input": "hello"}
USUAL = sorted(set(Scope) - NOT_BY_DEFAULT)


Keys = Callable[..., str]


@pytest.fixture
def keys(door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Keys:
    """`team-sessions keys`: takes arguments, returns what it printed, and expects an exit code."""
    monkeypatch.setenv("TEAM_SESSIONS_DATABASE_URL", door.system.database_url)

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["team-sessions", "keys", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        assert (left.value.code or 0) == code, printed
        return (printed.out + printed.err).strip()

    return run


def listed(keys: Keys, key: str) -> dict[str, Any]:
    """Return what `keys list --json` says of a key."""
    return next(row for row in json.loads(keys("list", "--json")) if row["id"] == id_of(key))


def id_of(key: str) -> str:
    return key.split("_")[1]


def status(door: Door, key: str) -> int:
    with door.with_key(key) as http:
        return http.get("/openapi.json").status_code


@pytest.mark.parametrize("needed", Scope)
def test_admin_is_every_scope_and_no_scope_is_every_usual_one(needed: Scope) -> None:
    """A key that names scopes has these and no others."""
    Principal("k", scopes=frozenset({Scope.ADMIN})).check_scope(needed)
    Principal("k", scopes=frozenset({needed})).check_scope(needed)
    for lacking in [frozenset({scope}) for scope in Scope if scope not in (needed, Scope.ADMIN)]:
        with pytest.raises(ScopeMissing):
            Principal("k", scopes=lacking).check_scope(needed)
    if needed in NOT_BY_DEFAULT:
        with pytest.raises(ScopeMissing):
            Principal("k").check_scope(needed)
    else:
        Principal("k").check_scope(needed)


def test_a_key_does_what_it_was_made_for(door: Door, keys: Keys) -> None:
    """It is made on the command line, with scopes, a user and teams, and holds to them."""
    user = name("u")
    key = keys("create", "--name", "reader", "--user", user, "--team", "plain", "--scope", "runs:read")
    run = door.enqueue(user_id=user)

    with door.with_key(key) as http:
        read, written = http.get(f"/v1/runs/{run['id']}"), http.post("/v1/runs", json=ORDER)

    assert read.status_code == 200
    assert "'runs:write'" in check_problem(written, status=403, code="scope_missing")["detail"]
    shown = {"name": "reader", "user_id": user, "teams": ["plain"], "scopes": ["runs:read"], "revoked_at": None}
    assert shown.items() <= listed(keys, key).items()


def test_a_key_of_before_there_were_scopes_goes_on(door: Door, keys: Keys) -> None:
    """Its row names none, and so it has every one but admin, like a key that is made without any."""
    key_id, made = uuid.uuid4().hex[:16], keys("create", "--name", "new")
    with door.system.db.write() as tx:
        old = {"id": key_id, "secret_hash": hashlib.sha256(b"secret").hexdigest(), "name": "old", "teams": []}
        tx.execute(insert(tables.api_keys).values(**old, created_at=db_time()))

    with door.with_key(f"ts_{key_id}_secret") as http:
        assert http.post("/v1/runs", json=ORDER).status_code == 202
    assert sorted(listed(keys, f"ts_{key_id}_")["scopes"]) == sorted(listed(keys, made)["scopes"]) == USUAL


def test_keys_are_listed_without_their_secrets(keys: Keys) -> None:
    """As a table for people and as JSON for programs."""
    key = keys("create", "--name", "for the shop", "--scope", "admin")

    table, rows = keys("list"), keys("list", "--json")

    line = next(line for line in table.splitlines() if line.startswith(id_of(key)))
    assert re.split("  +", line)[1:5] == ["for the shop", "(service)", "every", "admin"]
    assert set(json.loads(rows)[0]) == {"id", "name", "user_id", "teams", "scopes", "created_at", "revoked_at"}
    secret = key.split("_", 2)[2]
    assert secret not in table + rows
    assert hashlib.sha256(secret.encode()).hexdigest() not in table + rows


def test_a_revoked_key_ends_for_good(door: Door, keys: Keys) -> None:
    """It can neither be revoked nor rotated again; a key that is not there is told from one that is, by its id only."""
    key = keys("create", "--name", "short")
    assert status(door, key) == 200

    keys("revoke", id_of(key))

    wait_until(lambda: status(door, key) == 401, description="it is refused", timeout_s=3)
    assert listed(keys, key)["revoked_at"] is not None
    for command in ("revoke", "rotate"):
        assert repr(id_of(key)) in keys(command, id_of(key), code=2)
        assert "no active key 'ffffffffffffffff'" in keys(command, "f" * 16, code=2)
        assert key.split("_", 2)[2] not in keys(command, key, code=2)


def test_a_rotated_key_is_the_same_principal(door: Door, keys: Keys) -> None:
    """The old one ends at once, or when its grace is over; the new one has its bounds and an id of its own."""
    bounds = ("--user", name("u"), "--team", "plain", "--scope", "runs:read", "--scope", "runs:write")
    first = keys("create", "--name", "rotating", *bounds)
    second = keys("rotate", id_of(first))
    third = keys("rotate", id_of(second), "--grace", "600")

    wait_until(lambda: status(door, first) == 401, description="the first one is refused", timeout_s=3)
    assert (status(door, second), status(door, third)) == (200, 200)
    rows = [listed(keys, key) for key in (first, second, third)]
    differing = {"id": None, "created_at": None, "revoked_at": None}
    assert rows[0] | differing == rows[1] | differing == rows[2] | differing
    assert len({row["id"] for row in rows}) == 3
    assert rows[0]["revoked_at"] < rows[1]["revoked_at"]
    assert rows[2]["revoked_at"] is None


def test_a_grace_can_be_cut_short_and_not_drawn_out(door: Door, keys: Keys) -> None:
    """Rotating or revoking a key in its grace never gives it more time."""
    key = keys("create", "--name", "graced")
    ends = []
    for grace in ("300", "600", "200"):
        keys("rotate", id_of(key), "--grace", grace)
        ends.append(listed(keys, key)["revoked_at"])

    assert ends[0] == ends[1] > ends[2]
    keys("revoke", id_of(key))
    wait_until(lambda: status(door, key) == 401, description="it is refused", timeout_s=3)


def test_denials_are_written_down_without_the_key(door: Door) -> None:
    """Who was turned away from where, and why: the key's id and the route's template, no key and no id of a session."""
    session, secret = name("s"), "not-a-secret-" + name("")
    valid_key = door.new_key(user_id=name("u"), scopes=frozenset({Scope.SESSIONS_READ}))
    forged = f"ts_{id_of(valid_key)}_{secret}"
    path = f"/v1/sessions/{session}/messages"
    before = len(door.system.log("api").splitlines())

    with door.with_key(valid_key) as http:
        http.get(path, params={"user_id": "x"})
        for sent in (f"Bearer {forged}", f"Bearer sk-{secret}", f"Basic {secret}"):
            http.get(path, headers={"Authorization": sent})
        http.post("/v1/runs", json=ORDER)

    lines = [json.loads(line) for line in door.system.log("api").splitlines()[before:] if line.startswith("{")]
    denied = [line for line in lines if line["text"] == "request denied" and line["route"] != "/openapi.json"]
    template = "/v1/sessions/{session_id}/messages"
    assert [(line["code"], line["method"], line["route"], line["key_id"]) for line in denied] == [
        ("user_forbidden", "GET", template, id_of(valid_key)),
        ("key_invalid", "GET", template, id_of(valid_key)),
        ("key_invalid", "GET", template, None),
        ("key_missing", "GET", template, None),
        ("scope_missing", "POST", "/v1/runs", id_of(valid_key)),
    ]
    log = door.system.log("api")
    assert not [text for text in (valid_key, secret, session) if text in log]
