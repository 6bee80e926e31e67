"""A collector that is not named, not there, or that never answers: nothing is loaded, nothing waits, nothing fails."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from api_stub.client import RequestFailed
from tests.support import look
from tests.support.collector import Collector
from tests.support.system import ROOT, System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.domain import Run, RunOrder
from worker.queue.embedded import free_port
from worker.runs import enqueue
from worker.settings import Settings

pytestmark = [pytest.mark.processes, pytest.mark.extended]
LOADED = """
import sys, threading
from tests.traces.plain import team
team.run("hello", session_id="s")
import worker.cli.worker, api_stub.app
tracing = ("worker.observe.spans", "opentelemetry.sdk.trace", "opentelemetry.exporter", "requests")
print([name for name in sys.modules if name.startswith(tracing)])
print([thread.name for thread in threading.enumerate() if "Otel" in thread.name])
"""
WITHOUT_EXTRA = """
import sys
sys.modules["opentelemetry.exporter"] = None  # as if it was not installed
from worker.cli.main import main
sys.argv = ["team-sessions", sys.argv[1]]
main()
"""


def python(code: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a piece of Python in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_without_a_collector_nothing_that_sends_traces_is_loaded() -> None:
    """Not by a script that has executed a run, nor by a worker or an API; no thread is started for it."""
    done = python(LOADED)

    assert (done.stdout, done.stderr) == ("[]\n[]\n", "")


ODD = {
    "OTEL_ATTRIBUTE_COUNT_LIMIT": "many",
    "OTEL_SPAN_LINK_COUNT_LIMIT": "-1",
    "OTEL_BSP_MAX_QUEUE_SIZE": "0",
    "OTEL_BSP_SCHEDULE_DELAY": "-1",
    "OTEL_TRACES_SAMPLER": "traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "5",
    "OTEL_EXPORTER_OTLP_HEADERS": "hunter2",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "none",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "none",
    "OTEL_PROPAGATORS": "none",
}
ONCE = """
from tests.traces.plain import team
print(team.run("hello", session_id="s").content)
"""


def test_no_value_of_opentelemetrys_variables_ends_a_process() -> None:
    """With a collector, which is away; no header is logged."""
    done = python(ONCE, **ODD, TEAM_SESSIONS_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")

    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "OTEL_BSP_SCHEDULE_DELAY is ignored" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("endpoint", ["collector:4317", "http://127.0.0.1:1"])
def test_a_collector_that_a_platform_names_is_ignored_with_one_warning(endpoint: str) -> None:
    """It is no address, or what sends to it is not installed; one of ours would end the process."""
    without = "import sys; sys.modules['opentelemetry.exporter'] = None" if endpoint.startswith("http") else ""
    done = python(without + ONCE, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)

    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert done.stderr.count("OTEL_EXPORTER_OTLP_ENDPOINT is ignored") == 1


def test_opentelemetrys_own_switch_is_obeyed_and_said() -> None:
    """OTEL_SDK_DISABLED, which its SDK reads wherever it is used."""
    done = python(ONCE, OTEL_SDK_DISABLED="true", TEAM_SESSIONS_OTLP_ENDPOINT="http://127.0.0.1:1")

    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "OTEL_SDK_DISABLED" in done.stderr


@pytest.mark.parametrize("command", ["worker", "api", "up"])
def test_a_collector_without_what_sends_to_it_is_an_error_at_start(command: str, tmp_path: Path) -> None:
    """It says what to install."""
    given = {"TEAM_SESSIONS_DATA_DIR": str(tmp_path), "TEAM_SESSIONS_REDIS_URL": "redis://127.0.0.1:1"}

    done = python(WITHOUT_EXTRA, command, **given, TEAM_SESSIONS_OTLP_ENDPOINT="http://127.0.0.1:4318")

    assert done.returncode == 2, done.stderr
    assert "TEAM_SESSIONS_OTLP_ENDPOINT" in done.stderr
    assert "install team-sessions[otel]" in done.stderr


@contextmanager
def refusing() -> Iterator[str]:
    """The address of a port without a listener."""
    yield f"http://127.0.0.1:{free_port()}"


@contextmanager
def silent() -> Iterator[str]:
    """The address of a port that takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("away", [refusing, silent])
def test_a_collector_that_is_away_holds_up_no_run_and_no_stop(
    away: object, tmp_path: Path, database_url: str, valkey: ValkeyServer
) -> None:
    """The exporter would wait for ten minutes; the run completes, worker and API end, and the log says it once."""
    settings = {"OTEL_EXPORTER_OTLP_TIMEOUT": "600" if away is silent else "0.1", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with away() as url:  # type: ignore[operator]  # a parameter
        settings["TEAM_SESSIONS_OTLP_ENDPOINT"] = url
        with system(tmp_path, database_url=database_url, redis_url=valkey.url, settings=settings) as running:
            worker = running.start_worker()
            client = running.start_api()
            for _ in range(3):
                run = client.enqueue("with-tool", "hello [steps=1]", session_id="s", user_id="u")
                assert client.run(run["id"], wait_s=60)["status"] == "completed"
            if away is refusing:
                wait_until(lambda: "spans are dropped" in running.log("worker-1"), description="it is logged")
            for process in (worker, running.api):
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=120) == 0
            logged = lines(running, "worker-1")

    assert [line["text"] for line in logged if line["level"] != "INFO"] == (
        ["spans are dropped: the collector does not take them"] if away is refusing else []
    )


def test_a_process_of_one_run_sends_its_spans_and_names_the_run_in_its_lines(
    running: System, traced: Collector
) -> None:
    """One that is started for a run that may end its processes has no worker around it."""
    run = accepted(running)
    code = f"from worker.cli.isolated_run import execute_alone; execute_alone({run.id!r}, 'fails')"
    environment = {**running.environment, "TEAM_SESSIONS_TEAMS": "tests.traces.plain"}

    running.start("alone", [sys.executable, "-c", code], environment=environment).wait(timeout=120)

    assert look.row(running.db, run.id).status == "failed"
    assert {s.name for s in traced.spans} == {"invoke_agent fails", "chat fails"}
    (line,) = (line for line in lines(running, "alone") if line["level"] == "ERROR")
    assert (line["run_id"], line["session_id"], line["attempt"]) == (run.id, "s", 1)


def lines(running: System, name: str) -> list[dict[str, Any]]:
    """Return the lines of a process's log; Celery prints a banner beside them."""
    return [json.loads(line) for line in running.log(name).splitlines() if line.startswith("{")]


def accepted(running: System) -> Run:
    """Have a run accepted without notifying a worker."""
    settings = Settings(data_dir=running.directory)
    return enqueue.enqueue(running.db, RunOrder("fails", "hello", session_id="s"), settings=settings).run


def test_a_request_is_a_line_of_the_log(running: System) -> None:
    """Its method, route, status and time; not its path, nor what its query names."""
    client = running.start_api()

    with pytest.raises(RequestFailed):
        client.session("words-of-a-user", user_id="words-of-a-user")

    def logged() -> list[dict[str, Any]]:
        return [line for line in lines(running, "api") if line["text"] == "request answered"]

    (line,) = wait_until(logged, description="it is logged")
    assert line["level"] == "DEBUG"
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/sessions/{session_id}", 404)
    assert isinstance(line["ms"], float)
    assert "words-of-a-user" not in running.log("api")
