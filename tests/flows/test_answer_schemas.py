"""Answers that must fit a schema: parsed, repaired once, or an error without a word of them; calls are counted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import update

from worker import Agent, Calls, Limits, ScriptedModel, Team, tool
from worker.db import Db
from worker.domain import SERVICE, RunOrder, Status
from worker.errors import ArgumentInvalid, DefinitionInvalid, InputRefused, RunFailed, SchemaInvalid
from worker.process.runtime import Runtime
from worker.runs.enqueue import enqueue
from worker.runs.execute import execute
from worker.settings import Settings
from worker.store import messages, runs
from worker.store.columns import db_time
from worker.store.tables import runs as table

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"category": {"enum": ["parcel", "bill"]}, "reply": {"type": "string"}},
    "required": ["category", "reply"],
    "additionalProperties": False,
}
FITS = '{"category": "parcel", "reply": "It comes."}'
WRONG = '{"category": "other", "reply": "secret words"}'


class Letter(BaseModel):
    """What the team answers."""

    category: str
    reply: str | None = None


@dataclass
class Question:
    """What the team is asked."""

    order: int
    text: str = ""


def team(script_db: Db, *steps: Any, **options: Any) -> tuple[Team, ScriptedModel]:
    model = ScriptedModel(steps)
    return Team(id="t", model=model, db=script_db, **options), model


@pytest.mark.parametrize("text", [FITS, f"```json\n{FITS}\n```", f"  {FITS}\n"])
def test_an_answer_that_fits_is_the_object(script_db: Db, text: str) -> None:
    """Of a JSON schema a dict; `text` is what the model wrote; the row says that it is JSON."""
    one, model = team(script_db, text, output_schema=SCHEMA)

    output = one.run("Where is it?", session_id="s")

    assert output.content == {"category": "parcel", "reply": "It comes."}
    assert output.text == text
    assert model.requests[0].answer_schema == SCHEMA
    with script_db.runtime.db.read() as tx:
        run = runs.get(tx, output.run_id, principal=SERVICE)
    assert run is not None
    assert (run.parsed, run.output) == (output.content, text)
    assert one.get_run_output(output.run_id).content == output.content


def test_a_pydantic_model_and_the_schema_of_one_run(script_db: Db) -> None:
    """That of the run goes before the team's; without one the answer is text."""
    one, model = team(script_db, FITS, "[1, 2]", FITS, output_schema=Letter)

    assert one.run("x", session_id="s").content == Letter(category="parcel", reply="It comes.")
    assert one.run("x", session_id="s", output_schema=list[int]).content == [1, 2]
    assert Team(id="t", model=model, db=script_db).run("x", session_id="s").content == FITS
    strict = model.requests[0].answer_schema
    assert strict is not None
    assert (strict["required"], strict["additionalProperties"]) == (["category", "reply"], False)


def test_an_answer_is_repaired_once_and_leaves_no_trace(script_db: Db) -> None:
    """The log has the answer and the correction; no later context has them. The model gets the paths, and no tools."""

    @tool
    def look() -> str:
        """Look."""
        return "seen"

    options: Any = {"tools": [look], "output_schema": SCHEMA, "add_history_to_context": True}
    one, model = team(script_db, Calls(("look", {})), WRONG, FITS, FITS, **options)

    output = one.run("first", session_id="s")
    one.run("second", session_id="s")

    assert output.content["category"] == "parcel"
    repair = model.requests[2]
    assert repair.tools == ()
    assert "category (enum)" in repair.messages[-1].content
    assert repair.messages[-2].content == WRONG
    assert [m.delegation for m in output.messages] == [None, None, None, "repair", "repair", None]
    assert output.member_responses == []
    assert output.usage.model_calls == 3
    later = " ".join(message.content for message in model.requests[3].messages)
    assert "secret words" not in later
    assert "does not fit" not in later


@pytest.mark.parametrize(("limits", "calls"), [(Limits(), 2), (Limits(repairs=0), 1)])
def test_an_answer_that_does_not_fit_fails_the_run(script_db: Db, limits: Limits, calls: int) -> None:
    """With paths and no text; what was answered is in the history, and a tool or a hook is not asked again."""
    one, model = team(script_db, *[WRONG] * calls, output_schema=SCHEMA, limits=limits)

    with pytest.raises(RunFailed, match=r"does not fit its schema, at: category \(enum\)") as failed:
        one.run("x", session_id="s")

    assert "secret words" not in str(failed.value)
    assert len(model.requests) == calls
    with script_db.runtime.db.read() as tx:
        written = messages.of_run_by_id(tx, one._last_run_id())
    assert [message.content for message in written].count(WRONG) == calls


@pytest.mark.parametrize("text", ["no JSON", "", '{"category": NaN}', "Here it is: {}", '[{"a": 1}]'])
def test_what_is_no_json_object_does_not_fit(script_db: Db, text: str) -> None:
    """It is repaired as any other misfit."""
    one, model = team(script_db, text, FITS, output_schema=Letter)

    assert one.run("x", session_id="s").content == Letter(category="parcel", reply="It comes.")
    assert len(model.requests) == 2


class Lost(BaseException):
    """The process is gone."""


def test_a_worker_that_takes_over_asks_only_for_the_repair(process: Callable[..., Runtime]) -> None:
    """The reply was paid for, and is written."""

    def lose(_request: Any) -> str:
        raise Lost

    model = ScriptedModel([WRONG, lose, FITS])
    runtime = process(Team(id="t", model=model, output_schema=SCHEMA))
    run_id = enqueue(runtime.db, RunOrder("t", "x", session_id="s", user_id="u"), settings=Settings()).run.id
    with pytest.raises(Lost):
        execute(runtime, run_id, "t")
    with runtime.db.write() as tx:
        assert [m.delegation for m in messages.of_run_by_id(tx, run_id)] == [None, "repair", "repair"]
        tx.execute(update(table).values(lease_until=db_time(-1), lease_owner=None))

    execute(runtime, run_id, "t")

    with runtime.db.read() as tx:
        run = runs.get(tx, run_id, principal=SERVICE)
    assert run is not None
    assert (run.status, run.parsed["category"], len(model.requests)) == (Status.COMPLETED, "parcel", 3)


def test_the_member_that_answers_is_asked_with_the_schema(script_db: Db) -> None:
    """In `route` the leader only delegates."""
    member = ScriptedModel([WRONG, FITS])
    lead = ScriptedModel([Calls(("delegate_task_to_member", {"member_id": "m", "task": "x"}))])
    options: Any = {"members": [Agent(id="m", role="x", model=member)], "mode": "route", "output_schema": SCHEMA}
    one = Team(id="t", model=lead, db=script_db, **options)

    assert one.run("x", session_id="s").content["category"] == "parcel"
    assert lead.requests[0].answer_schema is None
    assert [request.answer_schema for request in member.requests] == [SCHEMA, SCHEMA]


def test_a_members_schema_is_of_its_answers_to_the_leader(script_db: Db) -> None:
    """The leader reads an error if the answer does not fit."""
    member = ScriptedModel([WRONG, WRONG, FITS])
    task = ("delegate_task_to_member", {"member_id": "m", "task": "x"})
    lead = ScriptedModel([Calls(task), Calls(task), "done"])
    members = [Agent(id="m", role="x", model=member, output_schema=SCHEMA)]

    output = Team(id="t", model=lead, members=members, db=script_db).run("x", session_id="s")

    results = [message.content for message in output.messages if message.role == "tool"]
    assert results[0].startswith("Error: member 'm' failed.")
    assert results[1] == FITS


def test_a_stream_withdraws_the_answer_that_did_not_fit(script_db: Db) -> None:
    """Deltas come as ever; a repair begins with `message.restarted`."""
    one, _ = team(script_db, WRONG, FITS, output_schema=SCHEMA)

    types = [event.type for event in one.run("x", session_id="s", stream=True)]

    assert "message.restarted" in types
    assert types.index("message.delta") < types.index("message.restarted")
    assert types[-1] == "run.completed"


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "nothing"}, "type"),
        ({"$ref": "https://example.org/schema.json"}, "leads outside"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "leads outside"),
        ({"description": "x" * 70_000}, "bytes"),
        (7, "no schema can be made"),
    ],
)
def test_a_schema_that_cannot_be_used_is_a_sentence(script_db: Db, schema: Any, problem: str) -> None:
    """In a definition, in a run, and where an order is accepted; nothing is written."""
    with pytest.raises(DefinitionInvalid, match=problem):
        Team(output_schema=schema)
    one, _ = team(script_db)
    with pytest.raises(SchemaInvalid, match=problem):
        one.run("x", session_id="s", output_schema=schema)


def test_a_schema_of_many_levels_is_refused() -> None:
    """More than 64, however deep: without an error of recursion."""
    schema: dict[str, Any] = {}
    for _ in range(10_000):
        schema = {"items": schema}
    with pytest.raises(SchemaInvalid, match=r"levels|no JSON"):
        Agent(id="a", model=ScriptedModel([])).run("x", output_schema=schema)


def test_an_input_schema_takes_objects_and_their_json(script_db: Db) -> None:
    """What does not fit is refused before anything is written; on workers it fails the run."""
    one, model = team(script_db, "one", "two", input_schema=Question)

    one.run(Question(7, "Where is it?"), session_id="s")  # type: ignore[call-overload]
    one.run({"order": 8}, session_id="s")  # type: ignore[call-overload]
    assert [r.messages[-1].content for r in model.requests] == ['{"order": 7, "text": "Where is it?"}', '{"order": 8}']
    with pytest.raises(ArgumentInvalid, match=r"order \(int_parsing\)"):
        one.run({"order": "many"}, session_id="s")  # type: ignore[call-overload]
    assert issubclass(InputRefused, Exception)
