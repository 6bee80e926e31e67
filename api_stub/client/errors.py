"""The errors of the client.

    ClientError
    ├── NotConfigured    the URL of the API or its key is missing or not valid
    ├── RequestFailed    the API, or a proxy before it, answered with an error
    └── Unreachable      there was no readable answer

A message says what happened, where, and what to do. It holds no key and no text of a user.
"""

from dataclasses import KW_ONLY, dataclass


class ClientError(Exception):
    """An error of the client."""


class NotConfigured(ClientError):
    """The URL of the API or its key is missing or not valid."""


@dataclass(eq=False, repr=False)
class RequestFailed(ClientError):
    """The API refused a request: `code` is stable, `status` is the HTTP status, and the text says what to do.

    `retry`: the same request can succeed later, after `retry_after_s` seconds if the API named a time. A status below
    500 changed nothing. Above, the request may have been carried out: an enqueue or a retry that is sent again with
    `idempotency_key` finds its run.
    """

    detail: str
    _: KW_ONLY
    status: int
    code: str
    retry: bool = False
    retry_after_s: float | None = None
    idempotency_key: str | None = None


@dataclass(eq=False, repr=False)
class Unreachable(ClientError):
    """There was no readable answer. Unless the connection failed, the request may have been carried out.

    An enqueue or a retry that is sent again with `idempotency_key` finds its run if there is one.
    """

    detail: str
    _: KW_ONLY
    idempotency_key: str | None = None
