"""The API does what its description says, for requests that nobody would write: schemathesis, with all its checks."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.api.door import MAX_INPUT, Door
from tests.support.system import ROOT, system, wait_until
from tests.support.valkey import ValkeyServer

MAX_EXAMPLES = 10  # of an operation in a phase
PROGRAM = str(Path(sys.executable).with_name("schemathesis"))
HOOKS = ROOT / "tests/api/schemathesis_hooks.py"
USER, SESSION = "u-kept", "s-kept"
BATCHES = ("open", "closed", "cancelled batch")


@pytest.fixture
def seeded(tmp_path: Path, database_url: str) -> Iterator[Door]:
    """A worker and an API of their own: what is generated here leaves runs behind that would disturb other tests."""
    settings = {"TEAM_SESSIONS_TEAMS": "tests.api.teams", "TEAM_SESSIONS_MAX_INPUT_BYTES": str(MAX_INPUT)}
    valkey = ValkeyServer()
    try:
        with (
            Redis.from_url(valkey.url, decode_responses=True) as redis,
            system(tmp_path, database_url=database_url, redis_url=valkey.url, settings=settings) as running,
        ):
            running.start_worker(queues="resumed,runs,batch")
            running.start_api().close()
            door = Door(running, redis)
            yield door
            door.http.close()
    finally:
        valkey.close()


def seed(door: Door) -> dict[str, str]:
    """Make what requests can name: a run of each status, a session with a summary, batches, a user to be erased."""
    later: dict[str, Any] = {"not_before": "2100-01-01T00:00:00Z"}
    runs = {
        "completed": door.enqueue("go", user_id=USER, session_id=SESSION),
        "failed": door.enqueue("[fail=400] go", user_id=USER),
        "cancelled": door.enqueue("go", user_id=USER, **later),
        "queued": door.enqueue("go", user_id=USER, **later),
        "running": door.enqueue("[delay=600] go", user_id=USER),
    }
    door.cancel(runs["cancelled"]["id"])
    for status, run in runs.items():
        door.until(run["id"], status)
    door.condense(runs["completed"]["id"], "They said hello.")
    for user in ("u-gone", "u-left"):
        door.ended(door.enqueue("go", user_id=user, session_id=SESSION + user)["id"])
        door.new_key(user_id=user)
    batches = {name: seed_batch(door, more=name != "closed") for name in BATCHES}
    return {status: run["id"] for status, run in runs.items()} | batches


def seed_batch(door: Door, *, more: bool) -> str:
    """Make a batch of nothing, which waits for its items, or is done."""
    body = {"kind": "enqueue_runs", "select": {"user_id": USER}, "requests": [], "more": more}
    answer = door.http.post("/v1/batches", json=body)
    assert answer.status_code == 202, answer.text
    path = f"/v1/batches/{answer.json()['id']}"
    wait_until(lambda: more or door.http.get(path).json()["finished_at"], description="a batch of nothing is done")
    return str(answer.json()["id"])


def exemplify(described: dict[str, Any], runs: dict[str, str]) -> None:
    """Have the examples of the description name what is there, so that each operation succeeds at least with them."""
    body = described["components"]["schemas"]["RunRequest"]["properties"]
    body["team"]["examples"], body["user_id"]["examples"], body["session_id"]["examples"] = ["plain"], [USER], ["s-new"]
    requests = [{"team": "plain", "input": "go", "user_id": USER}]
    for name in ("BatchRequest", "MoreItems"):
        described["components"]["schemas"][name]["properties"]["requests"]["examples"] = [requests]
    described["components"]["schemas"]["BatchRequest"]["properties"]["kind"]["examples"] = ["enqueue_runs"]
    described["components"]["schemas"]["MoreItems"]["properties"]["more"]["examples"] = [True]
    del described["components"]["schemas"]["MoreItems"]["properties"]["first"]["examples"]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            examples = {"run_id": runs["completed"], "session_id": SESSION, "user_id": USER, "team": "plain"}
            examples |= {"Last-Event-ID": "0-1", "Idempotency-Key": f"{method} {path}"}
            if path.endswith(("/retry", "/why")):
                examples["run_id"] = runs["failed"]
            ends = {"/cancel": "cancelled batch", "/retry": "closed"}
            examples["batch_id"] = runs[next((of for end, of in ends.items() if path.endswith(end)), "open")]
            if method == "delete":
                examples |= {"session_id": SESSION + "u-gone", "user_id": "u-gone" if "session" in path else "u-left"}
            for parameter in operation.get("parameters", []):
                if parameter["name"] in examples:
                    parameter["schema"]["examples"] = [examples[parameter["name"]]]
                elif parameter["name"] == "cursor":
                    del parameter["schema"]["examples"]


def configuration(key: str, runs: dict[str, str]) -> str:
    """Return what schemathesis is to do, as TOML, which takes JSON's spelling of strings and lists."""
    return f"""
suppress-health-check = ["all"]
seed = 1
max-stream-events = 1
request-timeout = 20
headers = {{ Authorization = {json.dumps(f"Bearer {key}")} }}
hooks = {json.dumps(str(HOOKS))}

[generation]
max-examples = {MAX_EXAMPLES}
database = "none"
no-shrink = true

[dictionaries]
runs = {{ values = {json.dumps([id for id in runs.values() if id.startswith("run_")])} }}
sessions = {{ values = {json.dumps([SESSION])} }}
users = {{ values = {json.dumps([USER])} }}
teams = {{ values = ["plain", "with-tool"] }}

[parameters]
"path.run_id" = {{ dictionary = "runs", probability = 0.5 }}
"path.session_id" = {{ dictionary = "sessions", probability = 0.5 }}
"path.user_id" = {{ dictionary = "users", probability = 0.5 }}
"body.team" = {{ dictionary = "teams", probability = 0.8 }}
"""


@pytest.mark.extended
def test_the_api_does_what_its_description_says(seeded: Door, tmp_path: Path) -> None:
    """Every check of schemathesis, on every operation, which each succeed at least once; of a stream, the first event.

    Left out is what `schemathesis_hooks.py` names, and nothing else.
    """
    runs = seed(seeded)
    described = seeded.http.get("/openapi.json").json()
    exemplify(described, runs)
    description, configured, report = (tmp_path / name for name in ("openapi.json", "schemathesis.toml", "report"))
    description.write_text(json.dumps(described))
    configured.write_text(configuration(seeded.new_key(scopes=frozenset({"admin"})), runs))

    command = [PROGRAM, "--config-file", configured, "run", description, "--url", seeded.system.url, "--checks", "all"]
    reported = ["--report", "ndjson", "--report-ndjson-path", report]
    examples = {"ENDED_RUN": runs["completed"], "OPEN_BATCH": runs["open"], "CANCELLED_BATCH": runs["cancelled batch"]}
    environment = {**os.environ, **examples}
    done = subprocess.run(
        [*command, *reported], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=False
    )

    operations = {f"{m.upper()} {path}" for path, methods in described["paths"].items() for m in methods}
    assert done.returncode == 0, done.stdout + done.stderr
    assert operations - succeeded(report) == set()
    for log in ("api", "worker-1"):
        assert "unexpected error" not in seeded.system.log(log)


def succeeded(report: Path) -> set[str]:
    """Return the operations that a 2xx was met at."""
    covered = set()
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for id, sent in recorder.get("interactions", {}).items():
            case = recorder["cases"][id]["value"]
            if 200 <= (sent.get("response") or {}).get("status_code", 0) < 300:
                covered.add(f"{case['method']} {case['path']}")
    return covered
