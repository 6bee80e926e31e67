"""`team-sessions batches`: each command against a running system, for people and for programs."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api_stub.client import Client
from tests.support.system import PROGRAM, System, wait_until
from tests.support.terminal import CTRL_C, Terminal
from worker.store import api_keys

Command = Callable[..., "subprocess.CompletedProcess[str]"]
LONG_S = 120.0


@pytest.fixture(scope="module")
def system(running: System) -> System:
    """The system with a second worker, for what nobody waits for."""
    running.start_worker(queues="enqueue,batch,summaries")
    return running


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    with Client(system.url, system.key) as made:
        yield made


@pytest.fixture
def batches(system: System, pipe: Command) -> Command:
    """Run a command about batches."""
    return lambda *arguments, **options: pipe("batches", *arguments, **options)


def written(system: System, count: int, **fields: Any) -> str:
    """Write a file of so many runs to enqueue, and return its path."""
    lines = [{"custom_id": f"r{n}", "team": "plain", "input": f"I am A{n}."} | fields for n in range(1, count + 1)]
    file = system.directory / "requests.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n", encoding="utf-8")
    return str(file)


def ended(client: Client, batch_id: str) -> dict[str, Any]:
    """Return a batch once it has ended, or waits for somebody."""

    def stands() -> Any:
        batch = client.batch(batch_id)
        paused = batch["status"] == "paused" and not batch["items"]["in_flight"]
        return batch if paused or batch["finished_at"] else None

    return dict(wait_until(stands, description="the batch has ended", timeout_s=LONG_S))


def told(done: "subprocess.CompletedProcess[str]", *, code: int = 0) -> str:
    """Return what a command printed, once it is seen that it ended as expected."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout


def test_runs_of_a_file_are_enqueued_and_watched(system: System, client: Client, batches: Command) -> None:
    """The id first, then how it ended; beside it lines about how it gets on, and what to type next."""
    done = batches("create", "enqueue_runs", "--requests", written(system, 4), "--name", "greetings", "--watch")

    id, sentence = told(done).splitlines()
    assert sentence.startswith(f"{id} is completed. 4 of 4 items ended (4 completed); ")
    assert "completed  100%  4/4" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert f"team-sessions batches results {id}" in done.stderr
    assert [item["custom_id"] for item in client.batch_items(id)] == ["r1", "r2", "r3", "r4"]


def test_a_batch_is_shown_to_people_and_to_programs(system: System, client: Client, batches: Command) -> None:
    """In the list, by itself, with its items and its results: a table, or the JSON of the API."""
    id = told(batches("create", "enqueue_runs", "--requests", written(system, 2), "--name", "shown")).strip()
    batch = ended(client, id)

    listed, shown, table = told(batches("list")), told(batches("show", id)), told(batches("items", id))

    row = next(line for line in listed.splitlines() if id in line)
    assert row.split()[1:7] == ["enqueue_runs", "shown", "completed", "2", "2", "0"]
    assert listed.splitlines()[0].split()[0] == "ID"
    assert f"{id} is completed. 2 of 2 items ended" in shown
    assert "kind" in shown
    assert [line.split()[:2] for line in table.splitlines()] == [["NUMBER", "YOUR"], ["1", "r1"], ["2", "r2"]]
    items = list(client.batch_items(id))
    assert all(item["run_id"] in table for item in items)
    assert json.loads(told(batches("list", "--limit", "1", "--json"))) == [next(iter(client.batches()))]
    assert json.loads(told(batches("show", id, "--json"))) == batch
    assert [json.loads(line) for line in told(batches("items", id, "--json")).splitlines()] == items
    assert told(batches("items", id, "--json", "--status", "failed")) == ""
    lines = [json.loads(line) for line in told(batches("results", id)).splitlines()]
    assert [line["new_output"] for line in lines] == [client.run(item["run_id"])["output"] for item in items]


def test_a_canary_is_paused_resumed_and_watched(system: System, client: Client, batches: Command) -> None:
    """A paused batch ends the watching with code 3, and says what to type."""
    made = batches("create", "enqueue_runs", "--requests", written(system, 3), "--canary", "1", "--watch")
    id, sentence = told(made, code=3).splitlines()

    resumed = json.loads(told(batches("resume", id, "--json")))
    watched = told(batches("watch", id))

    assert f"{id} is paused after its canary. 1 of 3 items ended" in sentence
    assert f"team-sessions batches resume {id}" in made.stderr
    assert resumed["paused_by"] is None
    assert f"{id} is completed. 3 of 3 items ended (3 completed)" in watched
    assert json.loads(told(batches("watch", id, "--json"))) == client.batch(id)


@pytest.mark.extended
def test_a_budget_is_raised(system: System, client: Client, batches: Command) -> None:
    """What to type names the option; without it the API says why not."""
    made = batches("create", "enqueue_runs", "--requests", written(system, 3), "--budget-tokens", "1", "--watch")
    id = told(made, code=3).splitlines()[0]

    refused = batches("resume", id)
    told(batches("resume", id, "--budget-tokens", "1000000"))

    assert f"team-sessions batches resume {id} --budget-tokens MORE" in made.stderr
    assert refused.returncode == 1
    assert "name a higher one" in refused.stderr
    assert ended(client, id)["items"]["completed"] == 3


@pytest.mark.extended
def test_a_batch_is_paused_and_cancelled(system: System, client: Client, batches: Command) -> None:
    """Who watches it is told so, with code 1."""
    slow = written(system, 3, input="[delay=600] go")
    id = told(batches("create", "enqueue_runs", "--requests", slow, "--window", "1")).strip()
    wait_until(lambda: client.batch(id)["items"]["in_flight"], description="one is in flight", timeout_s=LONG_S)

    paused, cancelled = told(batches("pause", id)), json.loads(told(batches("cancel", id, "--json")))
    watched = told(batches("watch", id), code=1)

    assert f"{id} is paused by request. 0 of 3 items ended" in paused
    assert cancelled["status"] == "cancelled"
    assert f"{id} is cancelled. 1 of 3 items ended (1 cancelled)" in watched
    again = batches("retry", id)
    assert (again.returncode, "cannot be tried again" in again.stderr) == (1, True)


@pytest.mark.extended
def test_what_failed_is_tried_again(system: System, client: Client, batches: Command) -> None:
    """First estimated, then repeated by a filter; the failed items of a batch by themselves."""
    user = "retry-user"
    failing = written(system, 2, input="[fail=400] no", user_id=user)
    made = batches("create", "enqueue_runs", "--requests", failing, "--watch")
    id, sentence = told(made).splitlines()
    failed = told(batches("items", id, "--status", "failed"))

    estimate = told(batches("create", "retry_failed", "--user", user, "--since", "2020-01-01", "--dry-run"))
    numbers = json.loads(told(batches("create", "retry_failed", "--user", user, "--dry-run", "--json")))
    nothing = told(batches("create", "retry_failed", "--user", user, "--until", "2020-01-01T00:00:00Z", "--dry-run"))
    repeated = told(batches("create", "retry_failed", "--user", user, "--watch"))
    told(batches("retry", id))

    assert "(2 failed)" in sentence
    assert f"team-sessions batches items {id} --status failed" in made.stderr
    assert f"team-sessions batches retry {id}" in made.stderr
    assert failed.count("model_refused") == 2
    assert estimate.startswith("2 runs: run_")
    assert "cost unknown: TEAM_SESSIONS_PRICES is not set" in estimate
    assert (numbers["count"], numbers["cost"]) == (2, None)
    assert nothing.startswith("0 runs\n")
    assert "(2 failed)" in repeated
    wait_until(
        lambda: [item["tries"] for item in client.batch_items(id)] == [2, 2], description="again", timeout_s=LONG_S
    )
    ended(client, id)


def test_summaries_of_listed_sessions_are_refreshed(system: System, client: Client, batches: Command) -> None:
    """Their ids come from standard input."""
    for session in ("sum-a", "sum-b"):
        client.wait(client.enqueue("condensed", "I am Ada", session_id=session)["id"])

    made = batches("create", "refresh_summaries", "--ids-file", "-", "--watch", "--json", said="sum-a\n\nsum-b\n")

    batch = json.loads(told(made))
    assert (batch["status"], batch["items"]["completed"]) == ("completed", 2)
    assert [item["version"] for item in client.batch_items(batch["id"])] == [1, 1]


def test_replays_are_counted_behind_their_results(
    system: System, client: Client, batches: Command, tmp_path: Path
) -> None:
    """The lines go to a file, the counts to stderr."""
    runs = [client.wait(client.enqueue("plain", text)["id"]) for text in ("I am Ada", "[stamp] [words=1] go")]
    said = "\n".join(run["id"] for run in runs)
    id = told(batches("create", "replay_runs", "--ids-file", "-", "--watch", said=said)).splitlines()[0]
    file = tmp_path / "results.jsonl"

    done = batches("results", id, "--output", str(file))

    assert told(done) == ""
    assert done.stderr.splitlines()[-1] == "1 same, 1 changed, 0 diverged, 0 failed"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["source_run_id"]: line["old_output"] for line in lines} == {run["id"]: run["output"] for run in runs}


@pytest.mark.extended
def test_a_long_file_is_sent_in_chunks(system: System, client: Client, batches: Command) -> None:
    """Over what the API takes at once, in items and in bytes: all of it is one batch, each line once, in its order."""
    file = written(system, 1_200, metadata={"pad": "é" * 200})
    assert Path(file).stat().st_size > 500_000

    made = json.loads(told(batches("create", "enqueue_runs", "--requests", file, "--canary", "1", "--json")))
    id = made["id"]
    batch = ended(client, id)
    client.cancel_batch(id)

    assert (batch["items"]["planned"], batch["paused_by"]) == (1_200, "canary")
    assert [item["custom_id"] for item in client.batch_items(id)] == [f"r{n}" for n in range(1, 1_201)]


def test_a_file_that_is_wrong_begins_nothing(system: System, client: Client, batches: Command) -> None:
    """Whatever was sent of it is cancelled; the line, or where it stands, is named."""
    file = Path(written(system, 1_500))
    good = file.read_text()

    file.write_text(good + "{\n")
    no_json = batches("create", "enqueue_runs", "--requests", str(file))
    file.write_text(good + '{"custom_id": "r1", "team": "plain", "input": "again"}\n')
    twice = batches("create", "enqueue_runs", "--requests", str(file))

    assert (no_json.returncode, twice.returncode) == (1, 1)
    assert "Line 1502 of" in no_json.stderr
    assert "'r1' is already in the batch" in twice.stderr
    for done in (no_json, twice):
        id = next(word for word in done.stderr.split() if word.startswith("batch_"))
        batch = client.batch(id)
        assert (batch["status"], batch["items"]["in_flight"], batch["items"]["ended"]) == ("cancelled", 0, 0)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("create", "enqueue_runs"), "needs --requests FILE"),
        (("create", "retry_failed", "--requests", "-"), "takes no --requests"),
        (("create", "retry_failed", "--ids-file", "-"), "is empty"),
        (("create", "retry_failed", "--ids-file", "-", "--dry-run"), "Leave one of the two out"),
        (("create", "retry_failed", "--since", "yesterday"), "Expected 2026-01-31"),
        (("create", "retry_failed", "--canary", "many"), "such as '1%'"),
        (("create", "retry_failed", "--budget-cost", "5"), "no prices are set"),
        (("create", "forget"), "refresh_summaries"),
        (("show", "batch_0"), "There is no batch 'batch_0'"),
        (("watch", "batch_0"), "There is no batch 'batch_0'"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(
    system: System, batches: Command, arguments: tuple[str, ...], reason: str
) -> None:
    """In a sentence, without a traceback."""
    done = batches(*arguments)

    assert done.returncode in (1, 2)
    assert (reason in done.stderr, "Traceback" in done.stderr) == (True, False), done.stderr


def test_a_terminal_shows_a_bar(system: System, client: Client, batches: Command) -> None:
    """It grows in its place; Ctrl-C ends the watching and not the batch, and says how to come back."""
    slow = written(system, 3, input="[delay=600] go")
    id = told(batches("create", "enqueue_runs", "--requests", slow)).strip()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEAM_SESSIONS_")}

    def watching() -> Terminal:
        command = [*PROGRAM, "batches", "watch", id]
        return Terminal(command, environment=environment, directory=system.directory)

    first = watching()
    try:
        first.until("[------------------------------]  running  0%  0/3")
        first.type(CTRL_C)
        left = first.until("Watch it again with: team-sessions batches watch " + id)
        assert first.end() == 1
    finally:
        first.close()
    assert "Traceback" not in left
    assert client.batch(id)["status"] == "running"
    second = watching()
    try:
        second.until("0/3")
        wait_until(lambda: client.batch(id)["items"]["in_flight"] == 3, description="its items have begun")
        client.cancel_batch(id)
        second.until(f"{id} is cancelled. 3 of 3 items ended (3 cancelled)", timeout_s=LONG_S)
        assert second.end() == 1
        assert "[##############################]  cancelled  100%  3/3" in second.screen
    finally:
        second.close()


def test_the_help_teaches(batches: Command) -> None:
    """Each command says what it does; the group begins with an example."""
    told_of_all = told(batches("--help"))

    commands = ["cancel", "create", "items", "list", "pause", "resume", "results", "retry", "show", "watch"]
    assert "batches create retry_failed --team support --since 2026-01-01 --dry-run" in told_of_all
    for command in commands:
        assert f"\n  {command} " in told_of_all
        assert len(told(batches(command, "--help")).splitlines()) > 4


def test_a_user_sees_its_own(system: System, batches: Command) -> None:
    """With its key, or named by a service."""
    with system.db.write() as tx:
        key = api_keys.create(tx, name="test", user_id="ada")
    id = told(batches("create", "retry_failed", "--user", "ada")).strip()

    mine = json.loads(told(batches("list", "--json", TEAM_SESSIONS_KEY=key, TEAM_SESSIONS_URL=system.url)))
    named = json.loads(told(batches("list", "--json", "--user", "ada")))

    assert [batch["id"] for batch in mine] == [batch["id"] for batch in named] == [id]
    assert batches("show", id, "--user", "bob").returncode == 1
