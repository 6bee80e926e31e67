"""Every place where text could be left, as bytes by their name, read from outside of the product."""

import json
from collections.abc import Iterator
from typing import Any

import psutil
from redis import Redis
from sqlalchemy import select

from tests.threats.house import House
from worker.store.tables import metadata

Place = tuple[str, bytes]


def database(house: House) -> bytes:
    """Return every row of every table."""
    with house.system.db.read() as tx:
        rows = [list(row) for table in metadata.sorted_tables for row in tx.execute(select(table))]
    return json.dumps(rows, default=str).encode()


def everywhere_else(house: House, events: list[dict[str, Any]]) -> Iterator[Place]:
    """Yield all the other places."""
    yield from broker(house)
    yield from files(house)
    yield "logs of up and all its children", house.log().encode()
    yield from flower(house)
    yield "task events", json.dumps(events, default=str).encode()
    yield from processes(house)
    for body in list(house.traces.bodies):
        yield "traces", body
    answer = house.http.get("/metrics")
    assert answer.status_code == 200, "metrics are read with the house's key"
    yield "metrics of the API", answer.content


def broker(house: House) -> Iterator[Place]:
    """Yield every key with its value, whatever its type, and what the server notes of commands and clients."""
    with Redis.from_url(house.broker) as redis:
        for key in redis.scan_iter(count=1000):
            yield f"broker key {key.decode()}", key + b" " + value(redis, key)
        for kind in ("slow", "large-request", "large-reply"):
            said = redis.execute_command("COMMANDLOG", "GET", "-1", kind)
            yield f"broker's log of {kind} commands", repr(said).encode()
        yield "broker's list of clients", repr(redis.client_list()).encode()


def value(redis: "Redis[Any]", key: bytes) -> bytes:
    """Return what a key holds."""
    read = {
        b"string": lambda: redis.get(key),
        b"list": lambda: redis.lrange(key, 0, -1),
        b"hash": lambda: redis.hgetall(key),
        b"set": lambda: redis.smembers(key),
        b"zset": lambda: redis.zrange(key, 0, -1, withscores=True),
        b"stream": lambda: redis.xrange(key),
        b"none": lambda: b"",  # it has just gone
    }
    return repr(read[redis.type(key)]()).encode()


def files(house: House) -> Iterator[Place]:
    """Yield the files of the data directory and of the directory for temporary ones, the database aside."""
    for directory in (house.data, house.temporary):
        for path in sorted(directory.rglob("*")):
            if path.is_file() and not path.name.startswith("team-sessions.db"):
                yield f"file {path.relative_to(directory.parent)}", str(path).encode() + b" " + path.read_bytes()


def flower(house: House) -> Iterator[Place]:
    """Yield what Flower shows: its pages, its lists, each task and each worker, and its metrics."""
    tasks = _page(house, "/api/tasks?limit=20000")
    workers = _page(house, "/api/workers?refresh=1")
    assert json.loads(tasks), "Flower knows of tasks"
    yield "Flower /api/tasks", tasks
    yield "Flower /api/workers", workers
    for path in ("/", "/workers", "/tasks", "/broker", "/metrics", "/api/task/types", "/api/queues/length"):
        yield f"Flower {path}", _page(house, path)
    for id in json.loads(tasks):
        yield "Flower /task/…", _page(house, f"/task/{id}")
        yield "Flower /api/task/info/…", _page(house, f"/api/task/info/{id}")
    for name in json.loads(workers):
        yield "Flower /worker/…", _page(house, f"/worker/{name}")


def _page(house: House, path: str) -> bytes:
    answer = house.flower.get(path)
    assert answer.status_code == 200, (path, answer.status_code)
    return answer.content


def processes(house: House) -> Iterator[Place]:
    """Yield command line, title and environment of each process; one that ends meanwhile says nothing."""
    for process in house.processes():
        try:
            told = [process.name(), *process.cmdline(), *map(str, process.environ().items())]
        except psutil.NoSuchProcess:
            continue
        yield "command lines and environments", " ".join(told).encode()
