"""The one event loop of a process: a run that shall stop leaves its model call at once, whatever the model does."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.unit.chat_server import HEAD, HELLO, KEY, UNTIL_LEFT, WAIT_S, Server, chunk, serving
from worker.domain import Reason, Stop, Stopped
from worker.models.event_loop import EventLoop
from worker.models.openai_chat import OpenAIChat


def _ask_in_thread(pool: ThreadPoolExecutor, event_loop: EventLoop, server: Server, stop: Stop) -> Any:
    model = OpenAIChat(id="m", api_key=KEY, base_url=server.base_url)
    return pool.submit(event_loop.ask, model, HELLO, lambda _: None, stop=stop)


def test_a_stop_ends_a_call_that_has_sent_nothing(event_loop):
    """A run that is cancelled leaves its model at once, though the server is silent until the client has gone."""
    stop = Stop()
    with serving(UNTIL_LEFT) as server, ThreadPoolExecutor() as pool:
        call = _ask_in_thread(pool, event_loop, server, stop)
        server.asked.get(timeout=WAIT_S)

        stop.set(Reason.CANCELLED)

        with pytest.raises(Stopped) as raised:
            call.result(timeout=WAIT_S)
        assert server.left.wait(WAIT_S)
    assert raised.value.reason is Reason.CANCELLED


def test_a_call_that_starts_after_the_stop_is_not_made(event_loop):
    """A run that was told to stop between two calls does not wait for the second."""
    stop = Stop()
    stop.set(Reason.DEADLINE)

    with serving(UNTIL_LEFT) as server, ThreadPoolExecutor() as pool:
        call = _ask_in_thread(pool, event_loop, server, stop)

        with pytest.raises(Stopped) as raised:
            call.result(timeout=WAIT_S)
    assert raised.value.reason is Reason.DEADLINE


def test_a_delta_behind_the_stop_is_dropped(event_loop):
    """Text that arrives with the stop does not reach those who watch."""
    stop = Stop()
    deltas: list[str] = []

    def on_delta(text: str) -> None:
        deltas.append(text)
        stop.set(Reason.CANCELLED)

    with serving(HEAD + chunk(content="first") + chunk(content="late"), UNTIL_LEFT) as server:
        model = OpenAIChat(id="m", api_key=KEY, base_url=server.base_url)
        with pytest.raises(Stopped):
            event_loop.ask(model, HELLO, on_delta, stop=stop)
        assert server.left.wait(WAIT_S)

    assert deltas == ["first"]


def test_fifty_calls_run_at_once(event_loop):
    """No call waits for another: the server answers none before it has all fifty."""
    together = threading.Barrier(50)
    answer = HEAD + chunk(content="hi", finish="stop")

    with serving(lambda: together.wait(WAIT_S), answer) as server, ThreadPoolExecutor(50) as pool:
        calls = [_ask_in_thread(pool, event_loop, server, Stop()) for _ in range(50)]

        assert [call.result(timeout=WAIT_S).content for call in calls] == ["hi"] * 50


def test_closing_the_background_hands_its_calls_over():
    """A process that ends its event loop leaves no thread waiting for a model."""
    event_loop = EventLoop()
    with serving(UNTIL_LEFT) as server, ThreadPoolExecutor() as pool:
        call = _ask_in_thread(pool, event_loop, server, Stop())
        server.asked.get(timeout=WAIT_S)

        event_loop.close()

        with pytest.raises(Stopped) as raised:
            call.result(timeout=WAIT_S)
    assert raised.value.reason is Reason.HANDED_OVER
