"""What servers of models were found to need, because they refused a request: it is asked once more in the other form.

A need is remembered per address and model, for this process, once the other form was accepted.
"""

from collections.abc import Collection
from enum import StrEnum

from worker.domain import ChatRequest

Server = tuple[str | None, str]  # base_url and id of the model


class Need(StrEnum):
    """A part of a request that a server refuses."""

    NO_STREAM_OPTIONS = "no stream_options"
    NO_EXTRA = "no extra fields in messages"


_found: dict[Server, frozenset[Need]] = {}


def of(server: Server) -> frozenset[Need]:
    """Return the needs that a server was found to have."""
    return _found.get(server, frozenset())


def remember(server: Server, needs: Collection[Need]) -> None:
    """Remember that a server accepts a request that meets *needs*."""
    if not of(server).issuperset(needs):
        _found[server] = of(server).union(needs)


def found(request: ChatRequest, needs: Collection[Need], words: str) -> Need | None:
    """Return the need that the *words* of a refusal point to; None: there is none that was not met."""
    if Need.NO_STREAM_OPTIONS not in needs and ("stream_options" in words or "include_usage" in words):
        return Need.NO_STREAM_OPTIONS
    if Need.NO_EXTRA not in needs and any(name in words for name in _extra_names(request)):
        return Need.NO_EXTRA
    return None


def _extra_names(request: ChatRequest) -> set[str]:
    of_messages = {name for m in request.messages if m.extra is not None for name in m.extra.fields}
    of_calls = {name for m in request.messages for call in m.tool_calls for name in call.extra or ()}
    return of_messages | of_calls
