"""Hooks: what they see, change and refuse, around a run and around its tool calls."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import look
from worker import Agent, Calls, InputRefused, OutputRefused, RunContext, ScriptedModel, Team, tool
from worker.db import Db
from worker.errors import RunFailed


@pytest.fixture
def db(database_url: str) -> Iterator[Db]:
    db = Db(database_url)
    yield db
    db.close()


@tool
def double(n: int) -> int:
    """Double a number."""
    return 2 * n


def test_an_input_that_is_refused_asks_no_model_and_no_later_run_shows_it(db: Db) -> None:
    """The run fails with the hook's reason; the input is stored, and left out of later contexts."""

    def no_cards(run_input: Any, user_id: str) -> None:
        if "4711" in run_input.input_content:
            raise InputRefused("Send no card numbers.")

    model = ScriptedModel(["hello", "again"])
    team = Team(id="t", model=model, pre_hooks=[no_cards], add_history_to_context=True, db=db)

    team.run("hi", session_id="s")
    with pytest.raises(RunFailed, match=r"The input was refused: Send no card numbers\."):
        team.run("my card is 4711", session_id="s")
    team.run("again", session_id="s")

    model.check_finished()
    assert [m.content for m in model.requests[1].messages] == ["hi", "hello", "again"]
    failed = team.get_session("s").get_runs()[1]  # type: ignore[union-attr]
    assert (failed.status, failed.error.code, failed.input) == ("failed", "input_refused", "my card is 4711")  # type: ignore[union-attr]
    assert look.row(db.runtime.db, failed.id).excluded


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_answer_is_refused_or_changed_before_it_is_written(db: Db, asynchronous: bool) -> None:
    """A text that a hook returns, or sets, is the answer; a refusal fails the run, and nothing of it is written."""

    def sign(output: str) -> str:
        return f"{output} – Desk"

    async def sign_later(run_output: Any, context: RunContext) -> None:
        run_output.content += f" – Desk for {context.user_id}"

    def refuse(output: str) -> None:
        if "secret" in output:
            raise OutputRefused("It names a secret.")

    team = Team(
        id="t",
        model=ScriptedModel(["fine", "the secret"]),
        post_hooks=[sign_later if asynchronous else sign, refuse],
        db=db,
    )

    fine = team.run("hi", session_id="s", user_id="ada")
    with pytest.raises(RunFailed, match=r"The answer was refused: It names a secret\."):
        team.run("tell", session_id="s", user_id="ada")

    assert fine.content == ("fine – Desk for ada" if asynchronous else "fine – Desk")
    assert [m.content for m in team.get_messages_for_session("s")] == ["hi", fine.content, "tell"]


def test_a_hook_that_fails_fails_the_run_and_the_session_goes_on(db: Db) -> None:
    """With its name, the type of the error and the place in the user's file."""
    broken = [True]

    def check(input: str) -> None:
        if broken.pop() if broken else False:
            raise KeyError("words of a user")

    team = Team(id="t", model=ScriptedModel(["fine"]), pre_hooks=[check], db=db)

    with pytest.raises(RunFailed, match=r"check' of the team failed with KeyError at test_hooks\.py:\d+") as raised:
        team.run("hi", session_id="s")

    assert "words" not in str(raised.value)
    assert team.run("hi", session_id="s").content == "fine"


Hook = Callable[..., Any]


def test_hooks_around_a_tool_see_change_and_replace_its_call(db: Db) -> None:
    """The first is outermost; each is given the name, the arguments and the call, by the names that people use."""
    seen: list[Any] = []

    def outer(function_name: str, function_call: Hook, arguments: dict[str, Any]) -> Any:
        seen.append((function_name, arguments))
        return f"outer {function_call(**arguments)}"

    async def inner(name: str, call_next: Hook, arguments: dict[str, Any], context: RunContext) -> Any:
        return f"inner {await call_next(n=arguments['n'] + 1)} for {context.user_id}"

    @tool
    async def triple(n: int) -> int:
        """Triple a number."""
        return 3 * n

    steps = [Calls(("double", {"n": 1}), ("triple", {"n": 1})), "done"]
    team = Team(id="t", model=ScriptedModel(steps), tools=[double, triple], tool_hooks=[outer, inner], db=db)

    output = team.run("go", user_id="ada")

    assert {call.tool_name: call.result for call in output.tools} == {
        "double": "outer inner 4 for ada",
        "triple": "outer inner 6 for ada",
    }
    assert sorted(seen) == [("double", {"n": 1}), ("triple", {"n": 1})]


def test_a_tool_hook_can_refuse_a_call(db: Db) -> None:
    """What it raises is the result, as if the tool had raised it; the model can react."""

    def no(name: str) -> None:
        raise PermissionError(f"{name} is not allowed")

    called: list[int] = []

    @tool
    def pay(n: int) -> None:
        """Pay."""
        called.append(n)

    team = Team(id="t", model=ScriptedModel([Calls(("pay", {"n": 1})), "ok"]), tools=[pay], tool_hooks=[no], db=db)

    assert team.run("pay").tools[0].result == "Error: PermissionError: pay is not allowed"
    assert called == []


def test_a_member_that_refuses_is_a_result_for_its_leader(db: Db) -> None:
    """Like a member whose model fails; hooks of a member see its task."""
    tasks: list[str] = []

    def refuse(task: str) -> None:
        tasks.append(task)
        raise InputRefused("Not my job.")

    member = Agent(id="m", model=ScriptedModel([]), pre_hooks=[refuse])
    steps = [Calls(("delegate_task_to_member", {"member_id": "m", "task": "look it up"})), "sorry"]
    team = Team(id="t", model=ScriptedModel(steps), members=[member], db=db)

    output = team.run("go")

    assert output.content == "sorry"
    assert tasks == ["look it up"]
    assert "member 'm' failed. The input was refused: Not my job." in next(
        m.content for m in output.messages if m.role == "tool"
    )


def test_the_result_of_a_tool_can_be_the_answer(db: Db) -> None:
    """`stop_after_tool_call`: no further model call, unless the tool failed."""

    @tool(stop_after_tool_call=True)
    def look(id: int) -> str:
        """Look it up."""
        if id < 0:
            raise ValueError("no such id")
        return f"parcel {id} is in Rome"

    model = ScriptedModel([Calls(("look", {"id": -1})), Calls(("look", {"id": 7}))])
    team = Team(id="t", model=model, tools=[look], db=db)

    output = team.run("where?", session_id="s")

    assert output.content == "parcel 7 is in Rome"
    assert [m.role for m in team.get_messages_for_session("s")][-2:] == ["tool", "assistant"]
    model.check_finished()


def test_a_tool_tells_watchers_how_far_it_is(db: Db) -> None:
    """Events of a name and an object; a completed call says whether it failed."""

    @tool
    def copy(context: RunContext) -> None:
        """Copy files."""
        for n in range(2):
            context.tell("copied", {"files": n + 1})
        raise OSError("disk full")

    team = Team(id="t", model=ScriptedModel([Calls(("copy", {})), "ok"]), tools=[copy], db=db)

    events = list(team.run("go", stream=True))

    sent = [event.data for event in events if event.type == "tool_call.progress"]
    assert [(data["name"], data["progress"], data["data"]) for data in sent] == [
        ("copy", "copied", {"files": 1}),
        ("copy", "copied", {"files": 2}),
    ]
    assert [event.data["failed"] for event in events if event.type == "tool_call.completed"] == [True]


def test_hooks_of_both_kinds_do_not_wait_for_each_other(db: Db) -> None:
    """Forty calls at once, each through an async, a sync and an async hook: more than a pool has threads."""

    async def outer(call_next: Hook, arguments: dict[str, Any]) -> Any:
        return await call_next(**arguments)

    def middle(call_next: Hook, arguments: dict[str, Any]) -> Any:
        return call_next(**arguments)

    class Inner:
        async def __call__(self, call_next: Hook, arguments: dict[str, Any]) -> Any:
            return await call_next(**arguments)

    steps = [Calls(*(("double", {"n": n}) for n in range(40))), "done"]
    team = Team(id="t", model=ScriptedModel(steps), tools=[double], tool_hooks=[outer, middle, Inner()], db=db)

    assert sorted(int(call.result or "") for call in team.run("go").tools) == [2 * n for n in range(40)]
