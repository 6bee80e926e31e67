"""A small rule-based model behind the Chat Completions wire format: for the demo, the benches and the crash tests.

It is no language model and says so. It remembers names from the conversation. Marks in the input of the run (the
last paragraph of the last user message), or in the name of the model, control it, so that tests need no state in the
server:

    [delay=2.5]    wait before the first byte
    [words=50]     answer in 50 words, one chunk each
    [pace=0.05]    wait before each word
    [stamp]        each word is the time at which it is written, in seconds, and ends with a semicolon
    [steps=3]      call the first tool in 3 replies before the answer
    [calls=2]      call it twice in each of these replies
    [call=NAME {"a": 1}]
                   make this call in the first reply, together with other marked calls
    [delegate=a,b] delegate the text after "task:" to member a, then to member b, each in its own reply;
                   the leader's marks come before "task:"
    [fail=400]     refuse with this HTTP status; the error repeats the message
    [retry-after=9]  send this Retry-After with the refusal
    [cut=3]        end the connection after 3 chunks
    [garbage]      send a chunk that is no JSON
    [page]         answer with a page for people, and status 200, as a gateway in front of a model does
    [echo]         answer with the request as it came, in JSON

For a request with a JSON schema it makes a summary: the names, and the number of lines; with [words=N] N more words.

With --journal FILE it writes a JSON line when a call arrives and another when its answer has left:
{"call", "at", "event": "asked" | "answered", "user": the input of the run (of a summary: its last message), "turn":
replies so far in its run, "summary": whether it is one, "size": characters of the whole context}; with --contexts also
"context": its messages as they came; "by" is the request's field "user", if it has one. The marks in the file
--also apply to every call while the file exists.
"""

import argparse
import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MARK = re.compile(r"\[(delay|words|pace|steps|calls|cut|fail|retry-after)=([0-9.]+)\]")
CALL = re.compile(r"\[call=(\w+) (\{.*?\})\]")
DELEGATES = re.compile(r"\[delegate=([\w,-]+)\]")
TELLS_NAME = re.compile(r"\b(?:[Mm]y name is|I am|I'm)\s+([A-Z]\w*)")
BLOCK = re.compile(r"<(session_summary|session_state|past_tool_call)>\n.*?\n</\1>", re.DOTALL)
ASKS_NAME = re.compile(r"\bmy name\b[^.]*\?")
BODY = ["Lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit", "sed", "do"]


class Model:
    """Answers requests, and keeps the journal."""

    def __init__(self, journal: Path | None, *, pace_s: float, contexts: bool, also: Path | None) -> None:
        self._pace_s = pace_s
        self._also = also
        self._contexts = contexts
        self._journal = journal.open("a+", buffering=1) if journal else None
        self._calls = self._calls_before()

    async def answer(self, request: Request) -> Response:
        """Answer one Chat Completions request, streamed or whole."""
        payload = await request.json()
        if "messages" not in payload:
            return JSONResponse({"error": {"message": "There are no messages."}}, status_code=400)
        self._calls += 1
        call = self._calls
        messages = payload["messages"]
        user, turn = _last_user(messages)
        is_summary = "response_format" in payload
        input = user if is_summary else _input(user)
        own, _, task = input.partition("task:")
        own = payload["model"] + ("" if is_summary else own)
        if self._also is not None and self._also.exists():
            own += self._also.read_text()
        marks = {name: float(value) for name, value in MARK.findall(own)}
        size = sum(len(m["content"] or "") for m in messages)
        calls = [] if turn else CALL.findall(own)
        members = [name for found in DELEGATES.findall(own) for name in found.split(",")]
        fields = {
            "user": _before_last(user) if is_summary else input,
            "turn": turn,
            "summary": is_summary,
            "size": size,
            **({"context": messages} if self._contexts else {}),
            **({"by": payload["user"]} if "user" in payload else {}),
        }
        self._note(call, "asked", fields)
        await asyncio.sleep(marks.get("delay", 0))
        if "fail" in marks:
            refusal = {"error": {"message": f"It was asked to refuse: {input}"}}
            headers = {"Retry-After": f"{marks['retry-after']:g}"} if "retry-after" in marks else None
            return JSONResponse(refusal, status_code=int(marks["fail"]), headers=headers)
        if "[page]" in own:
            return HTMLResponse("<html><body><h1>We will be back soon</h1></body></html>")
        tools = [t["function"]["name"] for t in payload.get("tools", ())]
        if calls:
            chunks = _tool_calls(turn, calls)
        elif turn < len(members):
            arguments = json.dumps({"member_id": members[turn], "task": f"{members[turn]}:{task}"})
            chunks = _tool_calls(turn, [("delegate_task_to_member", arguments)])
        elif tools and turn < marks.get("steps", 0):
            chunks = _tool_calls(turn, [(tools[0], "{}")] * int(marks.get("calls", 1)))
        elif "[echo]" in own:
            chunks = _words(json.dumps(payload))
        elif is_summary:
            chunks = [{"content": _summary(messages, user, marks)}]
        else:
            chunks = _words(_text(messages, user, marks))
        usage = _usage(messages, chunks)
        if not payload.get("stream"):
            self._note(call, "answered", fields)
            return JSONResponse(_whole(payload["model"], chunks, usage))

        async def stream() -> AsyncIterator[str]:
            for index, chunk in enumerate(chunks):
                if "[garbage]" in own:
                    yield "data: {no JSON\n\n"
                if index >= marks.get("cut", len(chunks)):
                    return
                if pace_s := marks.get("pace", self._pace_s):
                    await asyncio.sleep(pace_s)
                if "[stamp]" in own:
                    chunk = {"content": f"{time.time():.6f};"}
                yield _event(payload["model"], call, [{"index": 0, "delta": chunk, "finish_reason": None}])
            if "cut" in marks:
                return
            reason = "tool_calls" if "tool_calls" in chunks[0] else "stop"
            yield _event(payload["model"], call, [{"index": 0, "delta": {}, "finish_reason": reason}])
            yield _event(payload["model"], call, [], usage=usage)
            yield "data: [DONE]\n\n"
            if "[garbage]" not in own:
                self._note(call, "answered", fields)

        return StreamingResponse(stream(), media_type="text/event-stream")

    def _calls_before(self) -> int:
        """Return how many calls the journal has: of a server that ran before this one."""
        if self._journal is None:
            return 0
        self._journal.seek(0)
        return sum('"event": "asked"' in line for line in self._journal)

    def _note(self, call: int, event: str, fields: dict[str, Any]) -> None:
        if self._journal is not None:
            line = {"call": call, "at": time.time(), "event": event, **fields}
            self._journal.write(json.dumps(line) + "\n")


def _last_user(messages: list[dict[str, Any]]) -> tuple[str, int]:
    """Return the last user message, and how many replies came behind it."""
    index = max((n for n, m in enumerate(messages) if m["role"] == "user"), default=-1)
    user = messages[index]["content"] if index >= 0 else ""
    return user, sum(m["role"] == "assistant" for m in messages[index + 1 :])


def _before_last(text: str) -> str:
    """Return the line before the last one: in our prompts of summaries, the end of what is summarised."""
    return text.rsplit("\n", 2)[-2] if "\n" in text else text


def _input(user: str) -> str:
    """Return the input of the run: the last paragraph that is no block of data. Inputs of failed runs precede it."""
    return BLOCK.sub("", user).strip().rsplit("\n\n", 1)[-1]


def _text(messages: list[dict[str, Any]], user: str, marks: dict[str, float]) -> str:
    if "words" in marks:
        return _lorem(marks["words"])
    names = [name for m in messages if m["role"] in ("system", "user") for name in TELLS_NAME.findall(m["content"])]
    if ASKS_NAME.search(user):
        well = "I am well, thank you. " if "How are you" in user else ""
        return f"{well}Your name is {names[-1]}, as you told me." if names else "You have not told me your name."
    if names := TELLS_NAME.findall(user):
        return f"Hello {names[-1]}, nice to meet you. I only follow rules; I am no language model."
    return "I only follow rules. Tell me your name, and ask me for it later."


def _summary(messages: list[dict[str, Any]], user: str, marks: dict[str, float]) -> str:
    names = list(dict.fromkeys(TELLS_NAME.findall(user)))
    lines = sum(len((message["content"] or "").splitlines()) for message in messages)
    sentences = "".join(f"The user says: I am {name}. " for name in names)
    more = f" {_lorem(marks['words'])}" if "words" in marks else ""
    return json.dumps({"summary": f"{sentences}{lines} lines were read.{more}", "topics": names})


def _lorem(words: float) -> str:
    return " ".join(BODY[n % len(BODY)] for n in range(int(words)))


def _words(text: str) -> list[dict[str, Any]]:
    return [{"content": (" " if n else "") + word} for n, word in enumerate(text.split(" "))]


def _tool_calls(turn: int, requested: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    calls = [
        {"index": n, "id": f"call_{turn}_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(requested)
    ]
    return [{"tool_calls": calls}]


def _usage(messages: list[dict[str, Any]], chunks: list[dict[str, Any]]) -> dict[str, Any]:
    input_tokens = sum(len(m.get("content") or "") for m in messages) // 4 + 1
    return {"prompt_tokens": input_tokens, "completion_tokens": len(chunks), "total_tokens": input_tokens + len(chunks)}


def _event(model: str, call: int, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> str:
    chunk = {"id": f"chatcmpl-{call}", "object": "chat.completion.chunk", "created": 0, "model": model}
    return f"data: {json.dumps({**chunk, 'choices': choices, 'usage': usage})}\n\n"


def _whole(model: str, chunks: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
    content = "".join(c.get("content", "") for c in chunks)
    calls = chunks[0].get("tool_calls")
    message = {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return {"id": "chatcmpl-0", "object": "chat.completion", "created": 0, "model": model, "choices": [choice]} | {
        "usage": usage
    }


def main() -> None:
    """Serve on loopback until SIGTERM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--contexts", action="store_true", help="write each context to the journal")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds between two words, unless a mark says so")
    parser.add_argument("--also", type=Path, help="a file of marks for every call, while it is there")
    options = parser.parse_args()
    model = Model(options.journal, pace_s=options.pace, contexts=options.contexts, also=options.also)
    app = Starlette(routes=[Route("/v1/chat/completions", model.answer, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
