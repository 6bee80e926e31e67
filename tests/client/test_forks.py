"""A client that was used before a fork: each process has connections of its own, and gets its own answers."""

import json
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

from tests.client.server import Asked, Server, flowing, kept, serving
from tests.client.story import EVENTS, behind, spelled
from tests.support.system import ROOT

STREAM = "text/event-stream"


def echo(asked: Asked) -> list[bytes]:
    """Return the run that was enqueued."""
    return kept(202, {"id": "r", "input": asked.body["input"]})


def play(scene: str, server: Server) -> list[dict[str, Any]]:
    """Let the program play, and return what it printed."""
    command = [sys.executable, "-m", "tests.client.forking", scene, server.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def users_of_connections(server: Server) -> dict[int, set[str]]:
    """Return whose requests came through each connection."""
    users: dict[int, set[str]] = defaultdict(set)
    for asked in server.asked:
        if asked.body:
            users[asked.connection].add(asked.body["input"].split()[0])
    return users


@pytest.mark.parametrize(
    ("scene", "children"), [("plain", ["ada", "bob"]), ("on_a_loop", ["ada", "bob"]), ("pool", ["ada", "bob", "cyd"])]
)
def test_each_process_gets_its_own_answers(scene: str, children: list[str]) -> None:
    """Parent and children at the same time; no child holds a connection of its parent, or ends one."""
    with serving(echo) as server:
        seen = play(scene, server)

    assert sorted(line["who"] for line in seen) == children
    assert all(line["wrong"] == 0 for line in seen)
    if scene != "pool":  # where one process may take several
        assert all(line["inherited"] == 0 for line in seen)
        parent, *others = users_of_connections(server).values()
        assert parent == {"before", "parent"}
        assert sorted(map(sorted, others)) == [[child] for child in children]


def test_streams_that_are_read_at_a_fork_are_read_once_and_whole() -> None:
    """By another thread: it goes on in the parent. By the forking thread: the child resumes, whoever held a lock."""
    forked = threading.Event()

    def story(asked: Asked) -> Iterable[bytes | None]:
        last_id = asked.headers.get("last-event-id")
        if asked.body:
            if asked.body["input"] == "go on":
                forked.set()
            yield from echo(asked)
        elif "/child/" in asked.target and last_id:
            yield from flowing(STREAM, behind(last_id))
        else:
            head, chunk, _ = flowing(STREAM, spelled(EVENTS[:1]), cut=9999)
            yield head
            yield chunk
            forked.wait(120)
            rest = flowing(STREAM, spelled(EVENTS[1:]))
            yield rest[1] + rest[2]

    with serving(story) as server:
        seen = play("watching", server)

    whole = [event.id for event in EVENTS]
    assert seen == [{"who": "ada", "wrong": 0, "inherited": 0}, {"child": whole}, {"parent": whole}]
