"""Clients ask the named server, whatever the environment says to other programs."""

import ssl
from pathlib import Path

import pytest

from api_stub.client import NotConfigured
from api_stub.client.address import find
from tests.client.server import answer, in_turn
from tests.client.server import serving as serving_api
from tests.support.clients import Connect
from tests.unit.chat_server import HEAD, HELLO, KEY, Server, chunk, serving
from worker.domain import Stop
from worker.environment import drop_switches
from worker.errors import ModelRefused
from worker.models.event_loop import EventLoop
from worker.models.openai_chat import OpenAIChat
from worker.models.probe import NO_KEY, probe
from worker.queue.app import make_app
from worker.settings import load

RUN = {"id": "r", "status": "completed"}
SCHEMES = ("http", "https", "all")
NOBODY = "http://127.0.0.1:1"  # nothing listens there


@pytest.fixture(params=[NOBODY, "socks5h://127.0.0.1:1", "no address"])
def proxies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies in all spellings, which cannot be reached or not even be used."""
    for scheme in SCHEMES:
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            monkeypatch.setenv(name, request.param)


def answered(event_loop: EventLoop, server: Server, **options: str) -> str:
    """Ask *server* once and return the head of the request."""
    reply = event_loop.ask(OpenAIChat(id="m", base_url=server.base_url, **options), HELLO, print, stop=Stop())
    assert reply.content == "hi"
    return server.heads.get()


@pytest.mark.usefixtures("proxies")
def test_a_client_sends_its_key_to_no_proxy(connect: Connect) -> None:
    """Both clients, for requests and for streams."""
    with serving_api(in_turn(answer(200, RUN))) as server:
        assert connect(server.url).run("r") == RUN

    assert server.asked[0].headers["authorization"] == "Bearer a-key"


@pytest.mark.usefixtures("proxies")
def test_a_model_is_asked_without_a_proxy(event_loop: EventLoop) -> None:
    """So is its list of models, by `doctor`."""
    with serving(HEAD, chunk("stop", content="hi")) as server:
        answered(event_loop, server, api_key=KEY)


def test_a_model_is_asked_through_the_proxy_of_the_settings(
    event_loop: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers on this machine are not."""
    with serving(HEAD, chunk("stop", content="hi")) as server:
        monkeypatch.setenv("TEAM_SESSIONS_MODEL_PROXY", server.base_url.removesuffix("/v1"))
        model = OpenAIChat(id="m", api_key=KEY, base_url="http://models.example/v1")
        event_loop.ask(model, HELLO, print, stop=Stop())
        head = server.heads.get()
        monkeypatch.setenv("TEAM_SESSIONS_MODEL_PROXY", NOBODY)
        answered(event_loop, server, api_key=KEY + "2")

    assert head.startswith("POST http://models.example/v1/chat/completions HTTP/1.1")


def test_the_package_reads_two_variables_and_no_other(event_loop: EventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks and line ends around the key are not part of it."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Foreign: 1\nAuthorization: Bearer other")
    for name in ("ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET", "ADMIN_KEY"):
        monkeypatch.setenv(f"OPENAI_{name}", "foreign")
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\r\n")
    with serving(HEAD, chunk("stop", content="hi")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", NOBODY)
        head = answered(event_loop, server)

    assert f"authorization: bearer {KEY}\r\n" in head.lower()
    assert "foreign" not in head.lower()
    assert "openai-" not in head.lower()


@pytest.mark.parametrize("key", [None, "", " \n"])
def test_another_key_of_the_environment_is_not_taken(
    event_loop: EventLoop, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """A missing key is said, also by `doctor`."""
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)

    with pytest.raises(ModelRefused, match="OPENAI_API_KEY is not set"):
        event_loop.ask(OpenAIChat(id="m", base_url=NOBODY), HELLO, print, stop=Stop())
    assert probe(OpenAIChat(id="m", base_url=NOBODY)).problem is NO_KEY


def test_certificates_are_checked_against_the_file_of_the_settings(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE has no effect, and our own file is refused if it holds no certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with serving_api(in_turn(answer(200, RUN))) as server:
        connect(server.url).run("r")
    system = ssl.get_default_verify_paths().openssl_cafile
    named = {"TEAM_SESSIONS_CA_FILE": system, "TEAM_SESSIONS_KEY": "k", "TEAM_SESSIONS_URL": "https://api.example"}

    assert find(None, None, environment=named).authorities is not None
    assert find("http://127.0.0.1:1", None, environment=named).authorities is None
    (tmp_path / "empty").write_text("no certificate")
    with pytest.raises(NotConfigured, match="TEAM_SESSIONS_CA_FILE"):
        find(None, None, environment=named | {"TEAM_SESSIONS_CA_FILE": str(tmp_path / "empty")})


def test_celery_is_configured_by_our_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program's broker, result backend, loader and module of settings are not used."""
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", "redis://:hunter2@ours:6379/0")
    for name in ("BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND", "CONFIG_MODULE", "LOADER"):
        monkeypatch.setenv(f"CELERY_{name}", "shop")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings")

    app = make_app(load())

    connections = [app.connection(), app.connection_for_read(), app.connection_for_write()]
    assert {connection.as_uri() for connection in connections} == {"redis://:**@ours:6379/0"}
    assert app.backend.as_uri() == "disabled://"
    assert app.conf.task_acks_late


def test_switches_of_libraries_are_dropped_and_what_tools_may_read_is_kept() -> None:
    """A plug-in of OpenTelemetry is kept if it is installed."""
    dropped = (
        "C_STRICT_APP",
        "CELERY_BENCH_EVERY",
        "PICKLE_PROTOCOL",
        "PSYCOPG_IMPL",
        "PGTZ",
        "PROMETHEUS_MULTIPROC_DIR",
    )
    kept = (
        "CELERY_BROKER_URL",
        "PGHOST",
        "PGPASSWORD",
        "HTTP_PROXY",
        "OTEL_SDK_DISABLED",
        "OPENAI_ORG_ID",
        "PATH",
        "TZ",
    )
    environment = dict.fromkeys([*dropped, *kept], "odd") | {"OTEL_PROPAGATORS": "odd", "OTEL_PYTHON_CONTEXT": ""}

    drop_switches(environment)

    assert list(environment) == list(kept)
    installed = {"OTEL_PROPAGATORS": "tracecontext, baggage", "OTEL_PYTHON_CONTEXT": "contextvars_context"}
    drop_switches(installed)
    assert len(installed) == 2
