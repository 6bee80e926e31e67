"""How requests reach a model's server: connections that are kept, closed, secured and sent elsewhere."""

import asyncio
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.system import wait_until
from tests.unit.chat_server import HEAD, HELLO, KEY, chunk, serving
from worker.domain import Reply, Stop
from worker.errors import ModelUnavailable
from worker.models import server as model_server
from worker.models.event_loop import EventLoop
from worker.models.openai_chat import OpenAIChat

ANSWER = chunk("stop", content="hi")


class Kept(ThreadingHTTPServer):
    """A server that keeps its connections. `closes`: it closes each after its answer, without a word of it."""

    daemon_threads = True

    def __init__(self, *, closes: bool = False, context: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.closed = 0
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def finish(self) -> None:
                super().finish()
                with suppress(OSError):  # the client was first
                    self.request.shutdown(socket.SHUT_RDWR)
                outer.closed += 1

            def log_message(self, *_: Any) -> None:
                """Nothing."""

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                if self.path.startswith("/old"):
                    self.send_response(307)
                    self.send_header("Location", self.path.replace("/old", "/v1"))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Content-Length", str(len(ANSWER)))
                self.end_headers()
                self.wfile.write(ANSWER)
                self.wfile.flush()
                self.close_connection = closes

        super().__init__(("127.0.0.1", 0), Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "http" if context is None else "https"

    def url(self, path: str = "/v1") -> str:
        """Its address."""
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}{path}"


@contextmanager
def kept(**options: Any) -> Iterator[Kept]:
    """Serve for the block."""
    with Kept(**options) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(event_loop: EventLoop) -> Callable[..., Reply]:
    """Ask a server once, and return its reply."""

    def call(base_url: str, **options: Any) -> Reply:
        return event_loop.ask(OpenAIChat("m", KEY, base_url, **options), HELLO, print, stop=Stop())

    return call


def test_one_connection_serves_one_call_after_another(ask: Callable[..., Reply]) -> None:
    """It is kept, and used again."""
    with kept() as server:
        replies = [ask(server.url()).content for _ in range(5)]

    assert replies == ["hi"] * 5
    assert server.connections == 1


def test_a_connection_that_the_server_closed_is_not_used_again(
    ask: Callable[..., Reply], event_loop: EventLoop
) -> None:
    """Not even if the server did not say that it would."""
    with kept(closes=True) as server:
        for n in range(5):
            assert ask(server.url()).content == "hi"
            wait_until(lambda n=n: server.closed == n + 1, description="it was closed")  # type: ignore[misc]
            for _ in range(2):  # the loop has seen it once it has gone around
                event_loop._thread.begin(asyncio.sleep(0)).result()

        assert server.connections == 5


def test_a_redirect_is_followed_with_the_body_and_the_key(ask: Callable[..., Reply]) -> None:
    """As gateways do when an address moves."""
    with kept() as server:
        assert ask(server.url("/old")).content == "hi"

    (_, _, first), (path, headers, second) = server.requests
    assert path == "/v1/chat/completions"
    assert second == first
    assert headers["authorization"] == f"Bearer {KEY}"


def test_headers_and_query_of_a_model_are_sent(ask: Callable[..., Reply]) -> None:
    """They come before those of the package; neither is part of the body."""
    params = {"extra_headers": {"Authorization": "Key k", "X-Tenant": "a"}, "extra_query": {"api-version": "1"}}
    with kept() as server:
        ask(server.url("/v1/"), request_params=params)

    [(path, headers, body)] = server.requests
    assert path == "/v1/chat/completions?api-version=1"
    assert (headers["authorization"], headers["x-tenant"]) == ("Key k", "a")
    assert not body.keys() & params.keys()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A new certificate for 127.0.0.1, which is its own authority, with its key."""
    file = tmp_path / "server.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    subprocess.run(
        [*made, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(file), "-out", str(tmp_path / "c.pem")],
        check=True,
        capture_output=True,
    )
    file.write_text(file.read_text() + (tmp_path / "c.pem").read_text())
    return file


@pytest.mark.parametrize("trusted", [True, False])
def test_a_server_is_trusted_by_the_authorities_of_the_settings(
    ask: Callable[..., Reply], monkeypatch: pytest.MonkeyPatch, certificate: Path, trusted: bool
) -> None:
    """And by no variable that is meant for other programs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("TEAM_SESSIONS_CA_FILE" if trusted else "SSL_CERT_FILE", str(certificate.parent / "c.pem"))

    with kept(context=context) as server:
        if trusted:
            assert ask(server.url()).content == "hi"
        else:
            with pytest.raises(ModelUnavailable):
                ask(server.url())


def test_connections_are_closed_with_the_loop() -> None:
    """None is left to the garbage collector, which would complain."""
    loop = EventLoop()
    with serving(HEAD, ANSWER) as server:
        loop.ask(OpenAIChat("m", KEY, server.base_url), HELLO, print, stop=Stop())
        loop.close()

    assert loop._thread.loop not in model_server._servers
