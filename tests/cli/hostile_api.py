"""An API whose every text holds characters that control a terminal. Also a program that runs several commands.

python -m tests.cli.hostile_api URL COMMAND…     each COMMAND is a JSON list of arguments
"""

import json
import os
import sys
import unicodedata
from contextlib import suppress
from typing import Any

from tests.client.server import Asked, Server, answer, flowing, problem
from worker.cli.main import main
from worker.controls import CODES

VISIBLE = "\u00ad\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u180e"  # of the category Cf
JOINERS = "\u200c\u200d"
PLAIN = "ü🦉👨\u200d👩\u200d👧 日本 עברית"
HOSTILE = (
    "".join(chr(code) for code in CODES if not 0xD800 <= code < 0xE000)
    + "\x1b[31m\x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x9b2J\x90q\x9c\rover\u202egpj.exe\u2066\u2028\U000e0041"
    + PLAIN
)
HALF = "\ud83d"  # of a character beyond the basic plane
TIME = "2026-01-01T00:00:00.000000Z"
USAGE = {"model_calls": 1, "input_tokens": 1, "cached_input_tokens": 0, "output_tokens": 1}
RUN = {
    **dict.fromkeys(("id", "team", "session_id", "user_id", "input", "output", "retry_of"), HOSTILE),
    **{"status": "failed", "position": 1, "attempt": 1, "team_version": HOSTILE, "usage": USAGE},
    **{"error": {"code": HOSTILE, "message": HALF + HOSTILE}, "metadata": {HOSTILE: HOSTILE}, "finish_reason": HOSTILE},
    **{"created_at": TIME, "started_at": TIME, "finished_at": TIME},
}
SESSION = {
    **dict.fromkeys(("id", "team", "user_id", "name", "description"), HOSTILE),
    **{"tags": [HOSTILE], "metadata": {HOSTILE: 1}, "state": {"a": HOSTILE}, "run_count": 1, "message_count": 1},
    **{"summary": None, "created_at": TIME, "updated_at": TIME},
}
MESSAGE = {
    **{"seq": 1, "run_id": HOSTILE, "role": "assistant", "author": HOSTILE, "delegation": None, "content": HOSTILE},
    **{"tool_calls": [{"id": "c", "name": HOSTILE, "arguments": HOSTILE}], "tool_call_id": None, "created_at": TIME},
}
SUMMARY = {
    **{"version": 1, "text": HOSTILE, "topics": [], "covers_through_seq": 1, "behind": 0, "model": HOSTILE},
    **{"created_at": TIME, "refresh": None},
}
COMMANDS = [
    ["run", "team", "hello"],
    ["run", "team", "hello", "--json"],
    ["runs", "watch", "r"],
    ["runs", "watch", "r", "--json"],
    ["runs", "show", "r"],
    ["runs", "show", "r", "--json"],
    ["runs", "list"],
    ["runs", "list", "--json"],
    ["runs", "retry", "r"],
    ["runs", "cancel", "r"],
    ["why", "r"],
    ["teams"],
    ["sessions", "list"],
    ["sessions", "show", "s"],
    ["sessions", "messages", "s"],
    ["sessions", "messages", "s", "--json"],
    ["sessions", "summary", "s"],
    ["sessions", "delete", "s", "--yes"],
    ["sessions", "delete", HOSTILE.replace("\0", ""), "--yes"],
    ["sessions", HOSTILE.replace("\0", "")],
    ["users", "export", "u"],
    ["users", "erase", "u", "--yes"],
    ["batches", "show", "b"],  # refused, with a hostile sentence
]


def events() -> bytes:
    """Return a stream: an answer in pieces of one character, a tool, a member, a pause, the end."""
    whole = {"message_id": "1", "author": HOSTILE, "delegation": None}
    told: list[tuple[str, dict[str, Any]]] = [
        *(("message.delta", {**whole, "delta": letter}) for letter in HOSTILE[-80:]),
        ("message.completed", {**whole, "role": "assistant", "content": HOSTILE}),
        ("tool_call.started", {**whole, "tool_call_id": "c", "name": HOSTILE}),
        ("delegation.started", {**whole, "member": HOSTILE}),
        ("run.requeued", {"run_id": "r", "reason": HOSTILE, "not_before": TIME}),
        ("run.failed", RUN),
    ]
    lines = [f"id: 1-{n}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for n, (name, data) in enumerate(told, 1)]
    return "".join(lines).encode()


def respond(asked: Asked) -> list[bytes]:
    """Answer a request of a command."""
    path = asked.target.partition("?")[0].removeprefix("/v1/").split("/")
    page = {"teams": {"team": HOSTILE, "versions": [HOSTILE], "workers": 1, "queues": [HOSTILE]}, "runs": RUN}
    page |= {"sessions": SESSION, "messages": MESSAGE}
    if asked.method == "DELETE":
        return answer(204) if path[0] == "sessions" else answer(200, {HOSTILE: 1})
    if path[-1] == "events":
        return flowing("text/event-stream", events())
    if path[-1] == "export":
        return flowing("application/x-ndjson", (json.dumps(SESSION) + "\n").encode())
    if path[-1] in page and asked.method == "GET":
        return answer(200, {"data": [page[path[-1]]], "next_cursor": None})
    if path[-1] == "why":
        return answer(200, {"run_id": "r", "status": "queued", "reason": "x", "detail": HOSTILE})
    if path[-1] == "summary":
        return answer(200, SUMMARY)
    if path[0] in ("runs", "sessions"):
        return answer(202 if asked.method == "POST" else 200, RUN if path[0] == "runs" else SESSION)
    status, code = 404, "batch_not_found"
    return [piece.replace(b"It is", json.dumps(HOSTILE)[1:-1].encode()) for piece in longer(problem(status, code))]


def longer(pieces: list[bytes]) -> list[bytes]:
    """Leave out the length, since the body grows."""
    return [b"\r\n".join(line for line in pieces[0].split(b"\r\n") if not line.startswith(b"Content-Length"))]


def serve() -> Server:
    """Start the API."""
    return Server(respond)


def unknown() -> str:
    """Return the characters of Unicode that format or control text, and that a terminal gets nevertheless."""
    categories = ("Cc", "Cf", "Zl", "Zp", "Cs")
    found = {chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in categories}
    return "".join(sorted(found - set(map(chr, CODES)) - set(VISIBLE + JOINERS + "\n\t")))


if __name__ == "__main__":
    os.environ |= {"TEAM_SESSIONS_URL": sys.argv[1], "TEAM_SESSIONS_KEY": "k"}
    raw_streams = sys.stdout, sys.stderr
    for command in map(json.loads, sys.argv[2:]):
        sys.argv[1:] = command
        sys.stdout, sys.stderr = raw_streams
        with suppress(SystemExit):
            main()
