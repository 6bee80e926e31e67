"""Nothing that comes in is executed or fetched: no pickle in the broker, no address in a text."""

import json
import os
import pickle
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kombu.serialization import registry

from tests.support.system import wait_until
from tests.threats.house import USER, House
from worker import settings
from worker.queue.app import QUEUES, make_app

pytestmark = pytest.mark.processes


class Makes:
    """Unpickled, it makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_a_pickled_message_executes_nothing(house: House, tmp_path: Path) -> None:
    """Into each queue, to the workers' remote control and to Flower; each drops it and goes on."""
    body = pickle.dumps(((), {"run_id": Makes(tmp_path / "made")}, {}))
    pickle.loads(body)
    assert (tmp_path / "made").exists(), "it would"
    (tmp_path / "made").rmdir()
    kinds = {"application/x-python-serialize": body, "application/x-yaml": b"!!python/object/apply:os.getpid []"}
    tasks = ("runs.execute", "runs.enqueue", "summaries.refresh")
    before = house.log().count("message dropped")

    with house.shop.connection_for_write() as connection:
        producer = connection.Producer()
        for kind, content in kinds.items():
            about = {"content_type": kind, "content_encoding": "binary"}
            for queue in QUEUES:
                for task in tasks:
                    headers = {"task": task, "id": f"pickled-{queue}-{task}", "lang": "py"}
                    producer.publish(content, exchange=queue, routing_key=queue, headers=headers, **about)
            producer.publish(content, exchange="celery.pidbox", routing_key="", exchange_type="fanout", **about)
            producer.publish(content, exchange="celeryev", routing_key="worker.heartbeat", **about)
            producer.publish(content, exchange="celeryev", routing_key="task.received", **about)
    sent = len(kinds) * len(QUEUES) * len(tasks)
    wait_until(lambda: house.log().count("message dropped") == before + sent, description="all were dropped")

    assert house.ended(house.enqueue("plain", "hello"))["status"] == "completed"
    house.order("after-pickle", team="plain", input="hello", user_id=USER)
    assert house.under("after-pickle")["status"] == "completed"
    assert house.flower.get("/api/workers").status_code == 200
    assert "starting it again" not in house.log()
    assert not (tmp_path / "made").exists()


def test_json_is_all_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Celery reads its own settings; and that what is refused is refused by kombu, which knows pickle."""
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", "redis://127.0.0.1:1/0")
    app = make_app(settings.load())

    assert app.conf.accept_content == ["json"]
    assert app.conf.result_accept_content in (None, ["json"])
    assert {app.conf.task_serializer, app.conf.event_serializer} == {"json"}
    assert "pickle" in registry.name_to_type


@contextmanager
def trap() -> Iterator[tuple[str, list[str]]]:
    """Listen on loopback, and tell who connects."""
    caught: list[str] = []

    class Caught(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            caught.append(self.request.recv(1000).decode(errors="replace"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Caught) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}", caught
        server.shutdown()
        thread.join()


def test_no_address_in_a_text_is_fetched(house: House) -> None:
    """In inputs, replies, results of tools, summaries, tasks of members, names, and in fields that sound like one."""
    with trap() as (place, caught):
        url = f"http://{place}"
        texts = [
            *(f"{url}/plain", f"![a picture]({url}/markdown.png)", f"<img src='{url}/html.png'>"),
            *(f"{url}/I am {url}", f"data:text/html,<img src={url}>", f"file://{place}/etc/passwd"),
            json.dumps([{"type": "image_url", "image_url": {"url": f"{url}/part.png"}}]),
        ]
        runs = [house.enqueue(team, text) for team in ("plain", "sums-up", "leads") for text in texts]
        runs.append(house.enqueue("keeps", f'[call=keep {{"text": "![x]({url}/result.png)"}}] and [echo]'))
        runs.append(house.enqueue("leads", f"[delegate=a] task: ![x]({url}/task.png) [echo]"))
        runs.append(house.enqueue("plain", f"![x]({url}) [fail=400]"))
        runs.append(house.enqueue("plain", "hello", metadata={"callback": url, "webhook_url": url, "image": [url]}))
        runs.append(house.enqueue("sums-up", f"![x]({url}/a.png)", session_id="pictures"))
        runs.append(house.enqueue("sums-up", f"I am Ada, ![x]({url}/b.png)", session_id="pictures"))
        for run in runs:
            house.ended(run)
        change = {"name": url, "description": f"![x]({url})", "tags": [url], "metadata": {"avatar": url}}
        assert house.http.patch("/v1/sessions/pictures", params={"user_id": USER}, json=change).status_code == 200
        summary = "/v1/sessions/pictures/summary"
        wait_until(
            lambda: house.http.get(summary, params={"user_id": USER}).status_code == 200, description="it is condensed"
        )
        for path in ("/tasks", "/workers", "/"):
            assert house.flower.get(path).status_code == 200

        seen = list(caught)
        with socket.create_connection(tuple(place.split(":"))) as own:
            own.sendall(b"it would have been seen")
        wait_until(lambda: caught, description="the trap catches")

    assert seen == []
    assert caught == ["it would have been seen"]
