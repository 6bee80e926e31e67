"""For services that enqueue runs: `from api_stub.client import Client`, or `AsyncClient`. Imports nothing of `worker`.

`calls` has the requests. `core` and `streams` decide what is sent and what an answer means, without sockets; `client`
does the sending. `address` finds the API and its key. `types` is generated.
"""

from api_stub.client.client import AsyncClient, Client
from api_stub.client.core import Retries
from api_stub.client.errors import ClientError, NotConfigured, RequestFailed, Unreachable
from api_stub.client.streams import Event
from api_stub.client.types import Batch, BatchRun, Item, Message, Run, Session, Summary, Why

__all__ = [
    "AsyncClient",
    "Batch",
    "BatchRun",
    "Client",
    "ClientError",
    "Event",
    "Item",
    "Message",
    "NotConfigured",
    "RequestFailed",
    "Retries",
    "Run",
    "Session",
    "Summary",
    "Unreachable",
    "Why",
]
