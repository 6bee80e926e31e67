"""The tool calls of a reply while their pieces arrive.

The format: the first piece of a call has its index, id and name, and the pieces of its arguments follow under the same
index. Servers differ: the name or the whole call comes again, arguments are objects, all calls have one index or none,
ids are missing. The worst reading of such pieces is an error that the model gets as the result of the call.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from worker.domain import ToolCall
from worker.models import extras

_decoder = json.JSONDecoder()
_FENCE = re.compile(r"\s*```(?:json)?\s*(\{.*\})\s*```\s*", re.DOTALL)
# What models and their servers write around a name, which has letters, digits, "_" and "-".
_AROUND_NAME = re.compile(r"\s+|<\|.*|:\d+$|^\s*(?:functions|default_api|tools)[.:/]", re.DOTALL)


@dataclass
class _Call:
    id: str = ""
    name: str = ""
    text: StringIO = field(default_factory=StringIO)  # all pieces of its arguments
    last: str = ""  # the last piece
    pieces: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def add(self, piece: str) -> None:
        """Add the next piece of the arguments."""
        self.text.write(piece)
        self.last = piece
        self.pieces += 1

    @property
    def has_arguments(self) -> bool:
        return self.text.tell() > 0

    @property
    def is_complete(self) -> bool:
        return bool(_objects(self.text.getvalue()))


class CallPieces:
    """The calls so far. `add` takes the pieces of one chunk, `add_whole` all calls of a whole message."""

    def __init__(self, room: extras.Room | None = None) -> None:
        self.size = 0  # characters of all that has come
        self._room = room or extras.Room()
        self._calls: list[_Call] = []
        self._open: dict[Any, _Call] = {}  # index → the call that its next pieces belong to

    @property
    def count(self) -> int:
        """The number of calls."""
        return len(self._calls)

    def add(self, parts: Sequence[Any]) -> None:
        """Add the pieces in *parts*, entries of `tool_calls`."""
        touched: list[_Call] = []
        for part in parts:
            if isinstance(part, dict):
                call = self._find(part, touched)
                self._fill(call, part)
                touched.append(call)

    def add_whole(self, parts: Sequence[Any]) -> None:
        """Add the whole calls in *parts*. Those that came in pieces before are replaced."""
        before, self._calls = self._calls, []
        for n, part in enumerate(parts):
            if isinstance(part, dict):
                call = _Call()
                self._fill(call, part)
                if n < len(before):  # the id that was sent first is the one to answer
                    call.id, call.extra = before[n].id or call.id, {**before[n].extra, **call.extra}
                self._calls.append(call)
        self._calls += before[len(self._calls) :]

    def tool_calls(self) -> list[ToolCall]:
        """Return the calls, with all pieces."""
        return [
            ToolCall(call.id, _AROUND_NAME.sub("", call.name), arguments, call.extra or None)
            for call in self._calls
            if call.name or call.has_arguments
            for arguments in _arguments(call)
        ]

    def _find(self, part: Mapping[str, Any], touched: list[_Call]) -> _Call:
        """Return the call that *part* belongs to, a new one if it is the first piece of a call."""
        index, id = part.get("index"), _text(part.get("id"))
        name = _text(_function(part).get("name"))
        if index is not None:
            call = self._open.get(str(index))
        else:
            with_id = next((call for call in self._calls if id and call.id == id), None)
            last = self._calls[-1] if self._calls and not (id and name) else None
            call = with_id or last
        if call is None or self._begins_another(call, id, name, touched):
            call = _Call()
            self._calls.append(call)
        self._open[str(index)] = call
        return call

    @staticmethod
    def _begins_another(call: _Call, id: str, name: str, touched: list[_Call]) -> bool:
        """Whether a piece with the index of *call* begins another call. It has a name then.

        Gemini's endpoint sends index 0 with every call: https://github.com/NousResearch/hermes-agent/issues/62937
        """
        if not name or not call.name:
            return False
        if any(call is other for other in touched):
            return True
        if id and call.id and id != call.id:
            return call.is_complete or not call.has_arguments
        return name != call.name and call.is_complete

    def _fill(self, call: _Call, part: Mapping[str, Any]) -> None:
        function = _function(part)
        name, arguments = _text(function.get("name")), _json_text(function.get("arguments"))
        before = len(call.id) + len(call.name)
        call.id = call.id or _text(part.get("id"))
        if name.startswith(call.name):  # the first piece, or the name again
            call.name = name
        elif not call.has_arguments:
            call.name += name
        call.add(arguments)
        self.size += len(call.id) + len(call.name) - before + len(arguments)
        extra = extras.unknown(part, extras.OF_CALL)
        if function is not part and (inner := extras.unknown(function, extras.OF_FUNCTION)):
            extra["function"] = inner
        if extra and self._room.takes(extra):
            call.extra = extras.merge(call.extra, extra)


def _function(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object with name and arguments: some servers put them into the call itself."""
    function = part.get("function")
    return function if isinstance(function, dict) else part


def _arguments(call: _Call) -> list[str]:
    """Return the arguments of a call. If several objects came for it, without an id, it is several calls.

    Pieces that repeat or extend what came before are replaced by the last one, and `{}` before an object is no call.
    """
    text = call.text.getvalue()
    objects = _objects(text)
    if objects is None and call.pieces > 1:
        objects = _objects(call.last)
        text = text if objects is None else call.last
    if objects is None:
        return [_bare(text)]
    if len(objects) < 2:
        return [text if objects else text.strip()]
    distinct = [json.loads(text) for text in dict.fromkeys(json.dumps(o, ensure_ascii=False) for o in objects if o)]
    texts = [json.dumps(o, ensure_ascii=False) for o in distinct] or ["{}"]
    return texts[-1:] if call.id else texts


def _bare(text: str) -> str:
    """Return arguments without what models write around the object, quotes or a code fence; `{}` for null."""
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if value is None:
            return "{}"
        if isinstance(value, str) and _objects(value):
            return value
    fenced = _FENCE.fullmatch(text)
    return fenced[1] if fenced and _objects(fenced[1]) else text


def _objects(text: str) -> list[dict[str, Any]] | None:
    """Return the JSON objects that *text* consists of; None: it is something else, or breaks off."""
    objects = []
    position = 0
    try:
        while text[position:].strip():
            position += len(text[position:]) - len(text[position:].lstrip())
            value, position = _decoder.raw_decode(text, position)
            if not isinstance(value, dict):
                return None
            objects.append(value)
    except (ValueError, RecursionError):
        return None
    return objects


def _json_text(arguments: Any) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
