"""Six model servers that refuse a request for its form, each by the rules that it documents or answers with.

A check takes the body of a Chat Completions request, as JSON, and raises `Refused`. A `StrictServer` answers, over a
socket, what passes its checks.
"""

import itertools
import json
import re
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Answer = str | list[tuple[str, str, str]]  # a text, or calls: id, name, arguments
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Refused(Exception):
    """The server answers with this status."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


def expect(holds: object, sentence: str) -> None:
    """Refuse unless *holds*."""
    if not holds:
        raise Refused(sentence)


def openai(body: Body) -> None:
    """Calls and results match, ids have at most 40 characters, names have their form, and texts are there."""
    names = [t["function"]["name"] for t in body.get("tools", ())]
    expect(len(set(names)) == len(names), "tools: names must be unique")
    expect(all(NAME.fullmatch(name) for name in names), "tools: a name does not match the pattern")
    expect(body.get("tools") != [], "tools: [] is too short")
    pending: list[str] = []
    for n, message in enumerate(body["messages"]):
        role, calls = message["role"], message.get("tool_calls")
        expect(role in ("system", "user", "assistant", "tool"), f"messages.{n}: role {role}")
        if role == "tool":
            expect(message["tool_call_id"] in pending, f"messages.{n}: a tool message must follow its tool_calls")
            pending.remove(message["tool_call_id"])
        else:
            expect(not pending, f"messages.{n}: these tool_call_ids did not have response messages: {pending}")
        expect(isinstance(message["content"], str) or (role == "assistant" and calls), f"messages.{n}: content is null")
        expect(calls != [], f"messages.{n}.tool_calls: [] is too short")
        for call in calls or ():
            expect(len(call["id"]) <= 40, f"messages.{n}.tool_calls: an id is too long")
            expect(call["id"] not in pending, f"messages.{n}.tool_calls: duplicate id")
            expect(NAME.fullmatch(call["function"]["name"]), f"messages.{n}.tool_calls: a name does not match")
            expect(isinstance(call["function"]["arguments"], str), f"messages.{n}.tool_calls: arguments are no string")
            pending.append(call["id"])
    expect(not pending, "the last tool_calls have no response messages")


def mistral(body: Body) -> None:
    """No user behind a tool, the last message asks, and ids of calls have nine letters or digits."""
    messages = body["messages"]
    follows = {
        None: ("system", "user"),
        "system": ("user",),
        "user": ("assistant",),
        "assistant": ("user", "tool"),
        "tool": ("assistant", "tool"),
    }
    before: str | None = None
    for n, message in enumerate(messages):
        role = message["role"]
        expect(role in follows[before], f"Unexpected role '{role}' after role '{before}'")
        if role == "tool":
            calling = next(m for m in reversed(messages[:n]) if m["role"] != "tool")
            ids = [c["id"] for c in calling.get("tool_calls", ())]
            expect(message["tool_call_id"] in ids, "Unexpected tool call id in a tool message")
        if before == "tool" and role != "tool":
            results = _results_before(messages, n)
            calling = messages[n - results - 1]
            expect(len(calling["tool_calls"]) == results, "Not the same number of function calls and responses")
        if role == "assistant":
            expect(message["content"] or message.get("tool_calls"), "Assistant message must have content or tool_calls")
            follower = messages[n + 1]["role"] if n + 1 < len(messages) else None
            expect(not message.get("tool_calls") or follower == "tool", "Expected a tool message after tool_calls")
        for call in message.get("tool_calls", ()):
            ok = re.fullmatch("[a-zA-Z0-9]{9}", call["id"])
            expect(ok, f"Tool call id was {call['id']} but must be a-z, A-Z, 0-9, with a length of 9.")
            expect(isinstance(json.loads(call["function"]["arguments"]), dict), "Function arguments must be an object")
        before = role
    expect(before in ("user", "tool"), f"Expected last role User or Tool but got {before}")


def anthropic(body: Body) -> None:
    """Also on Bedrock: turns alternate, no text is blank, results are right behind their calls, and tools are there."""
    names = {t["function"]["name"] for t in body.get("tools", ())}
    messages = body["messages"]
    if messages[0]["role"] == "system":
        expect(messages[0]["content"].strip(), "system: text content blocks must contain non-whitespace text")
        messages = messages[1:]
    turns: list[tuple[str, list[Body]]] = []  # tool results are content of the user's turn
    for n, message in enumerate(messages):
        expect(message["role"] != "system", f"messages.{n}: Unexpected role system")
        blank = isinstance(message["content"], str) and not message["content"].strip()
        expect(not blank, f"messages.{n}: text content blocks must contain non-whitespace text")
        role = "user" if message["role"] == "tool" else message["role"]
        if turns and turns[-1][0] == role and (message["role"] == "tool") == (turns[-1][1][-1]["role"] == "tool"):
            expect(message["role"] == "tool", "messages: roles must alternate between user and assistant")
            turns[-1][1].append(message)
        else:
            expect(not turns or turns[-1][0] != role, "messages: roles must alternate between user and assistant")
            turns.append((role, [message]))
    expect(turns and turns[0][0] == "user", "messages: first message must use the user role")
    expect(turns[-1][0] == "user", "This model does not support assistant message prefill")
    seen: set[str] = set()
    for (role, turn), (_, following) in zip(turns, [*turns[1:], ("", [])], strict=True):
        if role != "assistant":
            continue
        calls = [call for message in turn for call in message.get("tool_calls", ())]
        ids = [call["id"] for call in calls]
        expect(all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", id) for id in ids), "tool_use.id does not match the pattern")
        expect(not seen.intersection(ids), "`tool_use` ids must be unique")
        seen.update(ids)
        expect(
            not calls or names, "The toolConfig field must be defined when using toolUse and toolResult content blocks"
        )
        expect({c["function"]["name"] for c in calls} <= names, "tool_use names a tool that is not defined")
        expect(
            all(isinstance(json.loads(c["function"]["arguments"]), dict) for c in calls), "tool_use.input: no object"
        )
        results = [m["tool_call_id"] for m in following if m["role"] == "tool"]
        expect(sorted(results) == sorted(ids), "tool_result blocks must match the tool_use blocks right before them")


def gemini(body: Body) -> None:
    """A call comes behind a user's turn or results, has as many results, and no part is empty."""
    messages = [m for m in body["messages"] if m["role"] != "system"]
    expect(messages[0]["role"] == "user", "contents: the first turn must be the user's")
    names = {t["function"]["name"] for t in body.get("tools", ())}
    before = ""
    for n, message in enumerate(messages):
        role, calls = message["role"], message.get("tool_calls", ())
        if calls:
            expect(before in ("user", "tool"), "function call turn comes immediately after a user or response turn")
            results = 0
            while n + 1 + results < len(messages) and messages[n + 1 + results]["role"] == "tool":
                results += 1
            ids = {m["tool_call_id"] for m in messages[n + 1 : n + 1 + results]}
            same = len(calls) == results and ids == {c["id"] for c in calls}
            expect(same, "the number of function response parts must equal that of the function call parts")
        else:
            expect(message["content"], "contents.parts must not be empty")
            expect(role != before or role == "tool", "contents: roles must alternate")
        for call in calls:
            expect(re.fullmatch(r"[A-Za-z_][\w.-]{0,63}", call["function"]["name"]), "function_call.name is invalid")
            expect(call["function"]["name"] in names, "function_call.name is not declared")
            expect(isinstance(json.loads(call["function"]["arguments"]), dict), "function_call.args must be a Struct")
        before = role
    expect(before != "assistant", "contents: the last turn must be the user's")


def llama(body: Body) -> None:
    """Chat templates on vLLM: a system message only first, strict turns, and arguments that are loaded as a mapping."""
    messages = body["messages"]
    for n, message in enumerate(messages):
        expect(message["role"] != "system" or n == 0, "System message must be at the beginning.")
        for call in message.get("tool_calls", ()):
            try:
                arguments = json.loads(call["function"]["arguments"])
            except ValueError as error:
                raise Refused(str(error)) from error
            expect(isinstance(arguments, dict), "Can only get item pairs from a mapping.")
    talk = [
        m["role"] for m in messages if m["role"] == "user" or (m["role"] == "assistant" and not m.get("tool_calls"))
    ]
    alternates = all(role == ("assistant" if n % 2 else "user") for n, role in enumerate(talk))
    expect(alternates, "Conversation roles must alternate user/assistant/user/assistant/...")
    for before, after in itertools.pairwise(messages):
        expect(after["role"] != "tool" or before["role"] == "tool" or before.get("tool_calls"), "Unexpected tool role")


def deepseek(body: Body) -> None:
    """Strict readers: content is there, null only beside calls, arguments are standard JSON, ids appear once."""
    ids: list[str] = []
    answered: list[str] = []
    for n, message in enumerate(body["messages"]):
        expect("content" in message, f"messages[{n}]: missing field `content`")
        text, calls = message["content"], message.get("tool_calls")
        expect(text is None or text.strip(), f"messages[{n}]: empty content")
        expect(text is not None or calls, f"messages[{n}]: content may be null only beside tool_calls")
        json.dumps(body).encode()
        for call in calls or ():
            expect(call["type"] == "function", f"messages[{n}]: unknown type of call")
            value = json.loads(call["function"]["arguments"], parse_constant=_not_json)
            expect(isinstance(value, dict), f"messages[{n}]: arguments are no object")
            ids.append(call["id"])
        if message["role"] == "tool":
            answered.append(message["tool_call_id"])
    expect(len(set(ids)) == len(ids) and all(ids), "ids of tool calls must be unique")
    expect(sorted(answered) == sorted(ids), "each tool call needs one result")


CHECKS: dict[str, Callable[[Body], None]] = {
    "openai": openai,
    "mistral": mistral,
    "anthropic": anthropic,
    "gemini": gemini,
    "llama": llama,
    "deepseek": deepseek,
}


class StrictServer:
    """Answers with one answer after another what passes its checks. `bodies` keeps the requests."""

    def __init__(self, answers: Sequence[Answer | int], checks: Collection[Callable[[Body], None]]) -> None:
        """*answers*: a text, calls, or an HTTP status to fail with."""
        self.bodies: list[Body] = []
        self.refused: list[str] = []
        left, outer = iter(answers), self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.bodies.append(body)
                try:
                    for check in checks:
                        check(body)
                    answer = next(left)
                    reason = "It was asked to refuse."
                except Refused as refused:
                    outer.refused.append(str(refused))
                    answer, reason = refused.status, str(refused)
                status = answer if isinstance(answer, int) else 200
                sent = (
                    json.dumps({"error": {"message": reason}}).encode() if isinstance(answer, int) else _stream(answer)
                )
                self.send_response(status)
                self.send_header("content-type", "application/json" if status != 200 else "text/event-stream")
                self.send_header("content-length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        """Take no more connections."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def strict_server(
    *answers: Answer | int, checks: Collection[Callable[[Body], None]] = tuple(CHECKS.values())
) -> Iterator[StrictServer]:
    """A `StrictServer` for the block."""
    server = StrictServer(answers, checks)
    try:
        yield server
    finally:
        server.close()


def _results_before(messages: Sequence[Body], end: int) -> int:
    count = 0
    while messages[end - 1 - count]["role"] == "tool":
        count += 1
    return count


def _stream(answer: Answer) -> bytes:
    delta: Body = (
        {"content": answer} if isinstance(answer, str) else {"tool_calls": [_call(*c) for c in enumerate(answer)]}
    )
    reason = "stop" if isinstance(answer, str) else "tool_calls"
    chunks = [{"choices": [{"index": 0, "delta": d, "finish_reason": f}]} for d, f in ((delta, None), ({}, reason))]
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def _call(index: int, call: tuple[str, str, str]) -> Body:
    id, name, arguments = call
    return {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _not_json(constant: str) -> object:
    raise Refused(f"{constant} is no JSON")
