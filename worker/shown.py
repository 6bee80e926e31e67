"""`print_response` and `cli_app`: a run in the terminal of a script, as it happens.

The answer goes to stdout as it comes; tool calls, members and problems stand in brackets. With the package `rich`, a
terminal gets the answer as formatted Markdown.
"""

import importlib.util
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from worker.controls import visible
from worker.domain import Event
from worker.loop.delegate import NAME as DELEGATES


class Shown:
    """Prints the events of one run. `members`: the answers of members too, not only that they work."""

    def __init__(self, *, members: bool = True, markdown: bool = True) -> None:
        self.run_id = ""
        self._members = members
        self._text = ""  # what is printed of the message that is being written
        self._message_id = ""
        self._formatted = _formatted() if markdown else None

    def show(self, events: Iterable[Event]) -> None:
        """Print all *events*."""
        try:
            for event in events:
                self.add(event)
        finally:
            self.close()

    def add(self, event: Event) -> None:
        """Print one event."""
        data = event.data
        match event.type:
            case "run.queued":
                self.run_id = data["run_id"]
            case "message.delta" if data["delegation"] is None:
                self._begin(data["message_id"])
                self._print(data["delta"])
            case "message.completed" if data["role"] == "assistant":
                self._complete(data)
            case "message.restarted" if data["message_id"] == self._message_id and self._text:
                self._note("the process that wrote this was lost; it is written again")
                self._text = ""
            case "tool_call.started" if data["name"] != DELEGATES:
                self._note(f"{_who(data)}{data['name']} …")
            case "tool_call.progress":
                self._note(f"{_who(data)}{data['name']}: {data['progress']}")
            case "tool_call.completed" if data["failed"]:
                self._note(f"{_who(data)}{data['name']} failed")
            case "delegation.started":
                self._note(f"→ {data['member']}")
            case "delegation.completed":
                self._note(f"← {data['member']}")
            case "run.requeued":
                self._note(f"waits until {data['not_before']}: {data['reason']}")
            case "run.failed" | "run.cancelled":
                self._note(event.type.removeprefix("run."))

    def close(self) -> None:
        """End the line that is begun."""
        if self._formatted is not None:
            self._formatted.end()
        elif self._text:
            _write("\n")
        self._text = ""

    def _begin(self, message_id: str) -> None:
        if message_id != self._message_id:
            self.close()
            self._message_id = message_id

    def _complete(self, data: dict[str, Any]) -> None:
        content = data["content"]
        if data["delegation"] is not None:
            if self._members and content and not data["tool_calls"]:
                self._note(data["author"])
                self._print(content)
                self.close()
            return
        if not content.startswith(self._text):
            self.close()
        self._print(content[len(self._text) :])
        self.close()

    def _print(self, text: str) -> None:
        self._text += text
        if self._formatted is not None:
            self._formatted.update(visible(self._text))
        else:
            _write(text)

    def _note(self, text: str) -> None:
        self.close()
        _write(f"[{text}]\n")


class _Markdown:
    """The message that is being written, formatted by `rich` and drawn again with each piece."""

    def __init__(self) -> None:
        from rich.live import Live  # noqa: PLC0415 - it may not be installed
        from rich.markdown import Markdown  # noqa: PLC0415

        self._new_live, self._markdown = Live, Markdown
        self._live: Any = None

    def update(self, text: str) -> None:
        if self._live is None:
            self._live = self._new_live(auto_refresh=False, vertical_overflow="visible")
            self._live.start()
        self._live.update(self._markdown(text), refresh=True)

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
        self._live = None


def _formatted() -> _Markdown | None:
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        return None
    return _Markdown()


def _who(data: dict[str, Any]) -> str:
    return f"{data['author']}: " if data["delegation"] else ""


def _write(text: str) -> None:
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def typed_lines(prompt: str) -> Iterable[str]:
    """Yield what a user types, line by line, until Ctrl-D, Ctrl-C, 'exit' or 'quit'."""
    with suppress(EOFError, KeyboardInterrupt):
        while (line := input(prompt).strip()) not in ("exit", "quit"):
            if line:
                yield line
    print()
