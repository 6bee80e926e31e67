"""The page of events, from the table of events."""

from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from worker.domain import EventType
from worker.domain.event import EVENT_TYPES, TERMINAL

HEAD = """# Events

The events of one run, in order. `GET /v1/runs/{run_id}/events` sends them as `text/event-stream`, which the client's
`stream()` and `team-sessions run` read. `team.run(stream=True)` yields the same events.

```
id: 1-2
event: message.delta
data: {"message_id": "1", "author": "support", "delegation": null, "delta": "Your parcel "}
```

What a client must know:

- **The last event is terminal**, and there is only one: `run.completed`, `run.failed` or `run.cancelled`. Over HTTP its
  data is the whole [Run](api.md#run), with `output` and `error`; in the library it is `run_id`, `status` and, of a
  completed run, `finish_reason`. If the run is erased while you watch, the stream ends without one.
- **`delegation` tells the leader from its members.** It is null in the leader's events; in a member's it is the id of
  the delegation. To show the answer alone, use the events with `delegation` null.
- **`message.restarted` withdraws deltas.** The attempt that was writing the message was lost: discard what you have
  shown of this `message_id`. New deltas follow.
- **`message.completed` replaces the deltas of its `message_id`.** Its `content` is whole, even if deltas are missing. A
  message can be completed twice, with the same content. One that is not completed when the run ends was not written.
- **`run.requeued` is not the end.** The run starts again at `not_before`; what it wrote is kept.
- **To resume**, send the id of the last event that you have read as `Last-Event-ID` (`after=` in the client). Nothing
  is missing and nothing comes twice. While nothing happens, comments (`: still here`) come every two seconds.
- **New types of events can be added.** Ignore types that you do not know.

A loop that prints the answer alone, whatever happens to the run. *events* is `client.stream(run_id)`, or
`team.run(text, stream=True)`:

```python
def print_answer(events):
    shown = {}  # the text of each message that is printed, by message_id
    for event in events:
        data = event.data
        if data.get("delegation") is not None:
            continue  # the words of a member
        if event.type == "message.delta":
            shown[data["message_id"]] = shown.get(data["message_id"], "") + data["delta"]
            print(data["delta"], end="", flush=True)
        elif event.type == "message.restarted" and shown.pop(data["message_id"], ""):
            print("\\n[written again]")
        elif event.type == "message.completed" and data["role"] == "assistant":
            print(data["content"].removeprefix(shown.get(data["message_id"], "")))
            shown[data["message_id"]] = data["content"]  # it can come twice
        elif event.type in ("run.failed", "run.cancelled"):
            print(f"[{event.type}]")
```

"""
FIELDS = {
    "run_id": "Id of the run.",
    "session_id": "Id of its session.",
    "team": "Id of its team.",
    "position": "The run's number in its session, from 1.",
    "attempt": "The attempt's number, from 1.",
    "reason": "[Code](errors.md) of the error after which the run waits.",
    "not_before": "The next attempt starts at this time or later (RFC 3339, UTC).",
    "message_id": "Names a message of the run before it has a `seq`. It is the same in every attempt.",
    "author": "Who wrote the message or made the call: id of the team (its leader), a member or the user; of a result, "
    "the tool's name.",
    "delegation": "Id of the delegation that a member works on; null: the leader.",
    "delta": "A piece of text.",
    "progress": "What the tool calls it.",
    "data": "What the tool tells: an object of its own.",
    "failed": "Whether the tool raised an error, or was not called. The result says why.",
    "pending_id": "Id of the call for those who decide: see [pending calls](api.md#pendingcall).",
    "kind": "What it waits for: `confirmation`, `input` or `external`.",
    "pending": "Ids of the calls that wait for a decision.",
    "seq": "The message's number in its session, from 1.",
    "role": "`user` (the input, or a member's task), `assistant` (a reply) or `tool` (a result).",
    "content": "The message's whole text.",
    "tool_calls": "The calls that a reply asks for: `id`, `name` and `arguments` of each (text, meant to be JSON).",
    "tool_call_id": "Id of the call, unique within its reply; null: the message is not a tool's result.",
    "name": "Name of the tool.",
    "member": "Id of the member.",
}


def page() -> str:
    """Return the events with their fields, then what each field means: the same in every event."""
    shown = [event_type for event_type in EVENT_TYPES if event_type.name not in TERMINAL]
    types: dict[str, Any] = {}
    for event_type in shown:
        for name, hint in get_type_hints(event_type.data).items():
            types.setdefault(name, hint)  # the first one is the most general
    rows = "".join(f"| `{each.name}` | {_data(each)} | {each.description} |\n" for each in EVENT_TYPES)
    fields = "".join(f"| `{name}` | {_type(hint)} | {FIELDS[name]} |\n" for name, hint in types.items())
    return (
        f"{HEAD}## Types\n\n| event | data | what it means |\n|---|---|---|\n{rows}\n"
        f"## Fields\n\n| field | type | what it is |\n|---|---|---|\n{fields}"
    )


def _data(event_type: EventType[...]) -> str:
    if event_type.name in TERMINAL:
        return "the [Run](api.md#run)"
    return ", ".join(f"`{name}`" for name in event_type.fields)


def _type(hint: Any) -> str:
    if isinstance(hint, UnionType):
        return " or ".join(_type(part) for part in get_args(hint))
    if hint is type(None):
        return "null"
    if hint in (int, bool):
        return "integer" if hint is int else "boolean"
    if get_origin(hint) is dict:
        return "object"
    if get_origin(hint) is list:
        return "list of strings" if get_args(hint) == (str,) else "list of objects"
    return "string"
