"""What the client raises, drawn once.

    ClientError
    ├── NotConfigured    where the API is, or with which key to ask it, is not known
    ├── RequestFailed    the API, or a proxy before it, answered with an error
    └── Unreachable      no answer came that could be read

Texts name what was found and what to do, and hold no key and nothing that a user said.
"""


class ClientError(Exception):
    """Something that the client could not do."""


class NotConfigured(ClientError):
    """It is not known where the API is, or with which key to ask it."""


class RequestFailed(ClientError):
    """The API refused a request: `code` is stable, `status` the HTTP status, and the text says what to do.

    `retry`: the same request can succeed later, after `retry_after_s` seconds where that was said. A request that was
    refused with a status below 500 changed nothing; above, that is not known: an enqueue or a retry is sent again with
    `idempotency_key`, and finds its run if there is one.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        code: str,
        retry: bool = False,
        retry_after_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retry = retry
        self.retry_after_s = retry_after_s
        self.idempotency_key = idempotency_key


class Unreachable(ClientError):
    """No answer came that could be read. Whether the request was carried out is not known.

    An enqueue or a retry is sent again with `idempotency_key`, and finds its run if there is one.
    """

    def __init__(self, reason: str, *, tries: int, idempotency_key: str | None = None) -> None:
        times = "once" if tries == 1 else f"{tries} times"
        super().__init__(
            f"The API gave no answer that could be read; it was asked {times}, and the last try ended with: {reason}. "
            "Whether the request was carried out is not known."
        )
        self.idempotency_key = idempotency_key
