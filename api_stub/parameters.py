"""What routes take from a path, a query or a header, described once."""

from typing import Annotated
from urllib.parse import unquote

from fastapi import Header, Path, Query
from pydantic import BeforeValidator

from api_stub.schemas import storable
from worker.domain.fields import ID, TEXT

whole = BeforeValidator(unquote)  # for what stands in a path: the counterpart of `app.WholeSegments`

RunId = Annotated[
    str,
    Path(description="Id of a run.", examples=["run_019ab3c4d5e6f708192a3b4c5d6e7f80"], json_schema_extra=TEXT),
    whole,
    storable("run_id"),
]
SessionId = Annotated[
    str,
    Path(description="Id of a session, unique for its user.", examples=["s-42"], json_schema_extra=TEXT),
    whole,
    storable("session_id"),
]
UserId = Annotated[
    str, Path(description="Id of a user.", examples=["u-7"], json_schema_extra=TEXT), whole, storable("user_id")
]
BatchId = Annotated[
    str,
    Path(description="Id of a batch.", examples=["batch_019ab3c4d5e6f708192a3b4c5d6e7f80"], json_schema_extra=TEXT),
    whole,
    storable("batch_id"),
]
ForUser = Annotated[
    str | None,
    Query(
        description="The user that a service key acts for; without, every user.",
        examples=["u-7"],
        json_schema_extra=TEXT,
    ),
    storable("user_id"),
]
OfTeam = Annotated[
    str | None,
    Query(description="Only those of this team.", examples=["support"], json_schema_extra=TEXT),
    storable("team"),
]
Cursor = Annotated[
    str | None,
    Query(
        description="`next_cursor` of the page before, with the same filters; without, the first page.",
        examples=["cnVuczoi…"],
    ),
]
Limit = Annotated[int, Query(ge=1, le=200, description="Entries in a page, at most.", examples=[50])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Send the same key again to be sure: it finds what it made the first time.",
        examples=["order-17"],
        json_schema_extra=ID,
    ),
]
