"""Small experiments with the names that two products share: the same lines for both, each in its own environment.

`names_here.py` and `names_agno.py` hand in the names. An experiment stands under the name that it is about, as the
handbook's page spells it, and returns what it found, in words that are the same for both.
"""

import json
from typing import Any

from probing import Experiments, Product, at_once, meeting, ping, roles, sent, tried

experiments = Experiments()


@experiments("Team.run()")
def _alone(p: Product) -> str:
    team = p.team(add_history_to_context=True)
    team.run("I am Ada.", user_id="a")
    team.run("I am Bob.", user_id="b")
    content = team.run("[echo]", user_id="a").content
    users = "its user's" * ("Ada" in content) + " and other users'" * ("Bob" in content)
    return f"without a session_id, the model gets {users or 'no'} earlier messages"


@experiments("Team.run(user_id=)")
def _users(p: Product) -> str:
    team = p.team(add_history_to_context=True)
    team.run("I am Ada.", user_id="a", session_id="s")
    second = "Ada" in team.run("I am Bob. [echo]", user_id="b", session_id="s").content
    first = "Bob" in team.run("[echo]", user_id="a", session_id="s").content
    which = " and ".join(["the first"] * first + ["the second"] * second) or "neither"
    return f"two users with one session id: {which} gets the other's messages"


@experiments("Team.run(session_id=)")
def _order(p: Product) -> str:
    wait, met = meeting()
    team = p.team(tools=[wait])
    at_once(2, lambda n: team.run("[steps=1]", session_id="s"))
    return f"two runs at once {'overlap' if met.is_set() else 'take turns'}"


@experiments("Team.run(stream=)")
def _stream(p: Product) -> str:
    events = list(p.team().run("Hello", session_id="s", stream=True))
    first, last = (getattr(e, "type", None) or e.event for e in (events[0], events[-1]))
    return f"events, from {first} to {last}"


@experiments("Team(metadata=)")
def _metadata(p: Product) -> str:
    team = p.team(metadata={"of": "team"})
    team.run("Hello", session_id="s")
    return f"the team's metadata is {'copied' if team.get_session('s').metadata else 'not copied'} into its sessions"


@experiments("Team.get_session()")
def _get_session(p: Product) -> str:
    team = p.team()
    team.run("Hello", session_id="s", user_id="a")
    assert team.get_session("s").user_id == "a"
    unknown, others = team.get_session("unknown"), team.get_session("s", user_id="b")
    return f"the session; {unknown} for an unknown id, {others} for another user's"


@experiments("Team.get_all_sessions()")
def _get_all_sessions(p: Product) -> str:
    team = p.team()
    for session_id in "one", "two":
        team.run("Hello", session_id=session_id)
    return f"with sessions one and two: {', '.join(s.session_id for s in team.get_all_sessions())}"


@experiments("session.update()")
def _update(p: Product) -> str:
    team = p.team()
    team.run("Hello", session_id="s")
    team.get_session("s").update(name="New Session Name", description="Updated description", tags=["x"])
    session = team.get_session("s")
    return f"stores {session.name!r}, {session.description!r}, {session.tags}"


@experiments("Team.delete_session()")
def _delete(p: Product) -> str:
    team: Any = None

    def forget() -> str:
        """Delete the session that this call is in."""
        return str(team.delete_session("s"))

    team = p.team(tools=[forget])
    team.run("Hello", session_id="s")
    tried(team.run, "[steps=1]", session_id="s")
    inside = "is written again" if team.get_session("s") else "stays deleted"
    team.run("Hello", session_id="again")
    returned = team.delete_session("again"), team.delete_session("again")
    return f"returns {returned[0]}, then {returned[1]}; deleted during one of its runs, it {inside}"


@experiments("Team.get_messages_for_session()")
def _messages(p: Product) -> str:
    team = p.team(members=[p.member("a")])
    team.run("[delegate=a] task: x", session_id="s")
    return f"after a run with a delegation: {roles(team.get_messages_for_session('s'))}"


@experiments("Team.get_chat_history()")
def _chat_history(p: Product) -> str:
    team = p.team(tools=[meeting()[0]])
    team.run("[steps=1]", session_id="s")
    return f"after a run with a tool call: {roles(team.get_chat_history('s'))}"


@experiments("Team.get_tool_calls()")
def _tool_calls(p: Product) -> str:
    team = p.team(tools=[ping])
    for word in "first", "second":
        team.run(f'[call=ping {{"word": "{word}"}}]', session_id="s")
    on_team = hasattr(team, "get_tool_calls")
    calls = team.get_tool_calls("s") if on_team else team.get_session("s").get_tool_calls()
    order = "oldest first" if "first" in str(calls[0]) else "newest first"
    return f"calls of the {'team' if on_team else 'session only'}, {order}"


@experiments("Team.update_session_state()")
def _update_state(p: Product) -> str:
    team = p.team()
    team.run("Hello", session_id="s")
    change = "changes" if hasattr(p, "Limits") else "session_state_updates"
    at_once(8, lambda n: [team.update_session_state(session_id="s", **{change: {f"{n}-{m}": 1}}) for m in range(5)])
    kept = len([key for key in team.get_session_state("s") if "-" in key])
    return f"8 threads set 40 keys: {'none is' if kept == 40 else 'some are'} lost"


@experiments("Team(session_state=)")
def _state(p: Product) -> str:
    numbers = iter(range(40))

    def note(run_context: Any) -> str:
        """Note a key."""
        run_context.session_state[f"key-{next(numbers)}"] = 1
        return "noted"

    note.__annotations__["run_context"] = p.RunContext
    team = p.team(session_state={"begins": 1}, tools=[note])
    at_once(8, lambda n: [team.run("[steps=1]", session_id="s") for _ in range(5)])
    state = team.get_session_state("s")
    kept = len([key for key in state if key.startswith("key-")])
    lost = "none is" if kept == 40 else "some are"
    assert "begins" in state
    return f"the initial state of a session; 40 runs in 8 threads set a key each: {lost} lost"


@experiments("Team(add_session_state_to_context=)")
def _state_in_context(p: Product) -> str:
    team = p.team(session_state={"answer": 42}, add_session_state_to_context=True, instructions="Be brief.")
    messages = json.loads(team.run("[echo]", session_id="s").content)["messages"]
    indexes = [n for n, m in enumerate(messages) if "42" in m["content"]]
    return f"in the {'first' if indexes[0] == 0 else 'last'} message"


@experiments("Team(id=)")
def _id(p: Product) -> str:
    ids = []
    for name in ("My Team", None, None):
        team = p.team(id=None, name=name)
        team.run("Hello", session_id="s")
        ids.append(team.id)
    return f"a team named My Team: {ids[0]}; a team without a name: {ids[1] if ids[1] == ids[2] else 'random'}"


@experiments("Team(model=)")
def _model(p: Product) -> str:
    team = p.team(model=None)
    output = team.run("[echo]")
    default = team.model.id if hasattr(team, "model") else json.loads(output.content)["model"]
    return f"by default {default}"


@experiments("Team(members=)")
def _members(p: Product) -> str:
    wait, met = meeting()
    members = [p.member(id, model="m[steps=1]", tools=[wait]) for id in ("a", "b")]
    inner = p.Team(id="c", name="c", model=p.OpenAIChat(id="m[steps=1]"), members=[p.member("d")], role="leads d")
    calls = "".join(f'[call=delegate_task_to_member {{"member_id": "{id}", "task": "x"}}]' for id in ("a", "b"))
    p.team(members=[*members, inner]).run(calls, session_id="s")
    return f"agents and teams; two delegations of one reply run {'in parallel' if met.is_set() else 'in sequence'}"


@experiments("Team(role=)")
def _role(p: Product) -> str:
    inner = p.Team(id="c", name="c", model=p.OpenAIChat(id="m"), members=[p.member("d")], role="leads the divers")
    includes_role = "leads the divers" in p.team(members=[inner]).run("[echo]").content
    return f"a leader's prompt {'contains' if includes_role else 'lacks'} its members' roles"


@experiments("Team(mode=)")
def _mode(p: Product) -> str:
    modes = ("coordinate", "route", "broadcast", "tasks")
    accepted = [mode for mode in modes if tried(p.team, mode=mode, members=[p.member("a")]) is None]
    member = p.member("a", model="m[words=2]")
    routed = p.team(mode="route", members=[member]).run("[delegate=a][words=5] task: x", session_id="s").content
    return f"{', '.join(accepted)}; in route the {'member' if len(routed.split()) == 2 else 'leader'} answers"


@experiments("Team(instructions=)")
def _instructions(p: Product) -> str:
    first = json.loads(p.team(instructions=["Be brief.", "Be kind."]).run("[echo]").content)["messages"][0]
    assert "Be brief.\nBe kind." in first["content"].replace("- ", "")
    return f"sent first, as role {first['role']}"


@experiments("Team(tools=)")
def _tools(p: Product) -> str:
    wait, met = meeting()
    described = json.loads(p.team(tools=[ping]).run("[echo]").content)["tools"][0]["function"]
    schema = "schema" if "any word" in str(described["parameters"]) else "schema without words"
    p.team(tools=[wait]).run("[steps=1][calls=2]", session_id="s")
    together = "in parallel" if met.is_set() else "in sequence"
    return f"signature and docstring become the {schema}; two calls of one reply run {together}"


@experiments("Team(add_history_to_context=)")
def _history(p: Product) -> str:
    team = p.team(add_history_to_context=True)
    team.run("Hello", session_id="s")
    return f"the second run sends {roles(sent(team.run('[echo]', session_id='s')))}"


@experiments("Team(num_history_runs=)")
def _runs(p: Product) -> str:
    team = p.team(add_history_to_context=True, num_history_runs=2)
    for word in "one", "two", "three":
        team.run(word, session_id="s")
    sound = _inputs(team)
    team = p.team(add_history_to_context=True, num_history_runs=2)
    team.run("good", session_id="s")
    tried(team.run, "bad [fail=400]", session_id="s")
    mixed = [text.split()[0] for text in _inputs(team)]
    return f"2, after runs one, two, three: {', '.join(sound)}; after a good and a bad run: {', '.join(mixed)}"


def _inputs(team: Any) -> list[str]:
    """Return the inputs that a further run sends before its own; those of failed runs may be joined with others."""
    users = (m["content"] for m in sent(team.run("[echo]", session_id="s")) if m["role"] == "user")
    return [text for content in users for text in content.split("\n\n")][:-1]


@experiments("Team(num_history_messages=)")
def _history_messages(p: Product) -> str:
    sizes, torn = [], False
    for limit in (1, 2, 3, 4, 5):
        team = p.team(add_history_to_context=True, num_history_messages=limit, tools=[ping])
        team.run('[call=ping {"word": "a"}][call=ping {"word": "b"}]', session_id="s")
        history = sent(team.run("[echo]", session_id="s"))[:-1]
        call_ids = [call["id"] for m in history for call in m.get("tool_calls") or []]
        torn |= call_ids != [m["tool_call_id"] for m in history if m["role"] == "tool"]
        sizes.append(len(history))
    pairs = "calls separated from results" if torn else "no call separated from its result"
    return f"1 to 5, after a run of 5 messages with two calls: {', '.join(map(str, sizes))}; {pairs}"


@experiments("Team(read_chat_history=)")
def _read_chat_history(p: Product) -> str:
    team = p.team(read_chat_history=True)
    for word in "first", "second", "third":
        team.run(f"{word} {'x' * 8_000}", session_id="s")
    request = json.loads(team.run("[steps=1][echo]", session_id="s").content)
    tool = request["tools"][0]["function"]
    read = request["messages"][-1]["content"]
    words = sorted((read.index(word), word) for word in ("first", "second", "third") if word in read)
    parameter = ", ".join(tool["parameters"]["properties"])
    return f"{tool['name']}({parameter}); after three runs of 8,000 characters: {', '.join(w for _, w in words)}"


@experiments("Team(read_tool_call_history=)")
def _read_tool_call_history(p: Product) -> str:
    team = p.team(read_tool_call_history=True, tools=[ping])
    for word in "first", "second":
        team.run(f'[call=ping {{"word": "{word}"}}]', session_id="s")
    request = json.loads(team.run("[call=get_tool_call_history {}][echo]", session_id="s").content)
    read = request["messages"][-1]["content"]
    order = "newest first" if read.index("second") < read.index("first") else "oldest first"
    return f"{request['tools'][-1]['function']['name']}, {order}"


@experiments("Team(limits=)")
def _limits(p: Product) -> str:
    made = []

    def work() -> str:
        """Work."""
        made.append(1)
        return "worked"

    option = {"limits": p.Limits(tool_calls=1)} if hasattr(p, "Limits") else {"tool_call_limit": 1}
    error = tried(p.team(tools=[work], **option).run, "[steps=3]", session_id="s")
    return f"{next(iter(option))}, one tool call allowed: {len(made)} of 3 made, then {error or 'an answer'}"


@experiments("Team(db=)")
def _db(p: Product) -> str:
    team = p.team(db=None, add_history_to_context=True)
    team.run("I am Ada.", session_id="s")
    kept = "Ada" in team.run("What is my name?", session_id="s").content
    return f"without it, the process {'keeps' if kept else 'does not keep'} the session"


@experiments("Team.enqueue()")
def _enqueue(p: Product) -> str:
    return f"a handle; the run is {p.team().enqueue('Hello', session_id='s').status}"


def _taken(option: str, value: str) -> None:
    @experiments(f"Team({option}=)")
    def take(p: Product) -> str:
        p.team(**{option: value})
        return "accepted"


_taken("session_summary_prompt", "Be very succinct:")
_taken("version", "7")
