"""The agent loop as durable steps of DBOS: a run is a workflow, each model call and each tool call a step of it.

As its documentation advises: what is not deterministic is in a step, the rest in the workflow.
https://docs.dbos.dev/python/tutorials/workflow-tutorial

Prints the milliseconds of each run, of a clock and of a core: [[wall, CPU], …]. The model's reply is read as a stream,
and its deltas go nowhere.
"""

import json
import os
import time
from typing import Any

import openai
from dbos import DBOS

TOOL = {"type": "function", "function": {"name": "look_up", "description": "Look something up.", "parameters": {}}}
client = openai.OpenAI(max_retries=0)


@DBOS.step()
def ask(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the model's reply."""
    text, calls = "", dict[int, dict[str, Any]]()
    tools: Any = [TOOL]
    sent: Any = messages
    with client.chat.completions.create(
        model="rules", messages=sent, tools=tools, stream=True, stream_options={"include_usage": True}
    ) as stream:
        for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                for call in choice.delta.tool_calls or ():
                    started = calls.setdefault(call.index, {"id": call.id, "type": "function", "function": ["", ""]})
                    if call.function is not None:
                        started["function"][0] += call.function.name or ""
                        started["function"][1] += call.function.arguments or ""
    for whole in calls.values():
        whole["function"] = dict(zip(("name", "arguments"), whole["function"], strict=True))
    return {"role": "assistant", "content": text, **({"tool_calls": list(calls.values())} if calls else {})}


@DBOS.step()
def look_up() -> str:
    """Look something up."""
    return "found"


@DBOS.workflow()
def answer(input: str) -> list[dict[str, Any]]:
    """Answer an input: ask the model, call its tools, until it asks for none."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": input}]
    while True:
        messages.append(ask(messages))
        calls = messages[-1].get("tool_calls", ())
        if not calls:
            return messages
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": look_up()} for call in calls]


DBOS(
    config={
        "name": "bench",
        "system_database_url": os.environ["DATABASE"],
        "log_level": "WARNING",
        "run_admin_server": False,
    }
)
DBOS.launch()
times = []
warm_up, runs = int(os.environ["WARM_UP"]), int(os.environ["RUNS"])
for n in range(warm_up + runs):
    began = time.perf_counter(), time.process_time()
    log = answer(os.environ["INPUT"])
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    roles = [message["role"] for message in log]
    assert roles == ["user", *["assistant", "tool"] * 5, "assistant"], roles
    if n >= warm_up:
        times.append([took[0] * 1000, took[1] * 1000])
print(json.dumps(times), flush=True)
DBOS.destroy()
