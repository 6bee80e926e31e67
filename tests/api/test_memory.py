"""Large bodies and answers take turns, so that many clients at once do not fill the memory of an API process."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest
from sqlalchemy import update

from api_stub import memory
from api_stub.memory import Places
from tests.api.door import Door, name
from worker.domain import bounds
from worker.errors import ApiBusy
from worker.store.tables import sessions

MIB = 1024 * 1024


def api_process(door: Door) -> psutil.Process:
    """Return the API process of the system: the one that listens."""
    port = httpx2.URL(door.system.url).port
    found = [c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.status == "LISTEN"]
    return psutil.Process(found[0])


def peak(process: psutil.Process) -> float:
    """Return the largest memory that a process has had, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def test_hostile_bodies_do_not_fill_the_memory(door: Door) -> None:
    """Millions of small lists, or of unknown fields, sent sixteen times at once: each is refused, and others served."""
    size = 60_000  # what fits into the limit of this system's bodies
    lists = b'{"team":"plain","input":"x","metadata":{"a":[' + b"[]," * size + b"[]]}}"
    fields = b'{"team":"plain","input":"x"' + b"".join(b',"%d":0' % n for n in range(size // 2)) + b"}"
    headers = {"Content-Type": "application/json"}

    def post(body: bytes) -> httpx2.Response:
        return door.http.post("/v1/runs", content=body, headers=headers)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(post, [lists, fields] * 8))

    assert {answer.status_code for answer in answers} == {413}
    assert {answer.json()["code"] for answer in answers} == {"value_too_large", "body_too_large"}
    assert "fields; the limit is 100" in answers[1].text
    assert peak(api_process(door)) < 400


@pytest.mark.parametrize(
    ("text", "too_many"),
    [
        (json.dumps({"input": "[{:" * memory.OBJECTS}), False),
        (json.dumps({"input": '\\"[{:' * memory.OBJECTS}), False),
        (json.dumps({"input": [[]] * memory.OBJECTS}), True),
        ('"' + '\\":' * memory.OBJECTS * 2, False),  # not JSON: refused when it is parsed
        ('"' + '\\":' * memory.OBJECTS * 2 + "\\", False),
    ],
    ids=["signs in a text", "quotes in a text", "lists", "a text without an end", "half an escape"],
)
def test_objects_are_counted_outside_of_strings(text: str, too_many: bool) -> None:
    """An input of any characters is taken; the time grows with the length of the text, whatever its quotes are."""
    assert memory.has_too_many_objects(text.encode()) is too_many


def test_a_batch_with_unknown_fields_names_them(door: Door) -> None:
    """A few are an error each, many are refused as one, wherever they are; metadata has any."""
    run = {"team": "plain", "input": "x", "metadata": {str(n): n for n in range(500)}}
    few, many = ({**run, **{f"f{n}": 1 for n in range(count)}} for count in (2, 200))

    refused = [door.http.post("/v1/batches", json={"kind": "enqueue_runs", "requests": [r]}) for r in (few, many)]

    codes = [(answer.status_code, answer.json()["code"]) for answer in refused]
    assert codes == [(422, "invalid_request"), (413, "body_too_large")]
    assert door.enqueue(session_id=name("s"), metadata=run["metadata"])["metadata"] == run["metadata"]


@pytest.mark.extended
def test_pages_at_once_take_turns(door: Door) -> None:
    """Eight clients read a list of large states: each gets all of it, and the process stays small."""
    user = name("u")
    for n in range(3):
        door.enqueue(session_id=f"s{n}", user_id=user)
    state = {"a": [[] for _ in range(bounds.STATE_BYTES // 4)]}
    with door.system.db.write() as tx:
        tx.execute(update(sessions).where(sessions.c.user_id == user).values(state=state))

    def read(_n: int) -> list[str]:
        found: list[str] = []
        query = {"user_id": user, "limit": "200"}
        while True:
            answer = door.http.get("/v1/sessions", params=query)
            assert answer.status_code == 200, answer.text
            page = json.loads(answer.content)
            found += [session["id"] for session in page["data"]]
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]

    with ThreadPoolExecutor(8) as pool:
        lists = list(pool.map(read, range(8)))

    assert [len(found) for found in lists] == [len(set(found)) for found in lists] == [3] * 8
    assert peak(api_process(door)) < 400


def test_places_are_given_in_order_and_back() -> None:
    """Small ones do not pass a large one that waits; who leaves takes no place; who waits too long is told."""

    async def story() -> list[str]:
        places, done = Places(10), []

        async def use(label: str, size: int, until: asyncio.Event) -> None:
            async with places.taken(size):
                done.append(label)
                await until.wait()

        first, rest = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(use("a", 8, first))
            await asyncio.sleep(0)
            leaves = group.create_task(use("leaves", 5, rest))
            group.create_task(use("larger than all", 99, rest))
            group.create_task(use("small", 1, rest))
            await asyncio.sleep(0)
            assert done == ["a"]
            leaves.cancel()
            await asyncio.sleep(0)
            first.set()
            await asyncio.sleep(0.01)
            assert done == ["a", "larger than all"]
            rest.set()
        return done

    assert asyncio.run(story()) == ["a", "larger than all", "small"]


def test_who_waits_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """503: the request can be sent again."""
    monkeypatch.setattr(memory, "WAIT_S", 0.01)

    async def story() -> None:
        places = Places(1)
        async with places.taken():
            with pytest.raises(ApiBusy):
                async with places.taken():
                    pass
            with pytest.raises(ApiBusy):
                places.take_now(1)
        async with places.taken():
            pass

    asyncio.run(story())
    assert (ApiBusy.status, ApiBusy.retry) == (503, True)
