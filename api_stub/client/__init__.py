"""For services that enqueue runs: `from api_stub.client import Client`. It imports nothing of `worker`."""

from api_stub.client.client import Client, Event, RequestFailed, Unreachable

__all__ = ["Client", "Event", "RequestFailed", "Unreachable"]
