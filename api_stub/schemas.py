"""Request and response bodies of the API. Further ones are dataclasses of `worker.domain`.

Times are RFC 3339 in UTC with six decimals. Values of `position` and `seq` count from 1.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field, WithJsonSchema

from worker.domain import (
    Decision,
    Message,
    PendingCall,
    Principal,
    Refresh,
    Run,
    RunOrder,
    Scope,
    SessionSummary,
    Status,
    bounds,
)
from worker.domain.fields import TEXT, Metadata, SessionId, TeamId, Time, UserId, field

NextCursor = Annotated[
    str | None, field("Send it as `cursor` to get the next page. Null on the last page.", "cnVuczoi…", None)
]
T = TypeVar("T")
Texts = list[Annotated[str, WithJsonSchema({"type": "string"} | TEXT)]]
NAME = TEXT | {"maxLength": bounds.NAME_LENGTH}
DESCRIPTION = TEXT | {"maxLength": bounds.DESCRIPTION_LENGTH}
Responses = dict[int | str, dict[str, Any]]
_LOCATION = {"Location": {"description": "The path of the created object.", "schema": {"type": "string"}}}
COMMITTED: Responses = {202: {"description": "Accepted and committed to the database.", "headers": _LOCATION}}


def text_answer(media_type: str, description: str) -> Responses:
    """Return the OpenAPI description of an answer that is not one JSON value."""
    return {200: {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}}


class Page(BaseModel, Generic[T]):
    """A page of a list."""

    data: list[T] = Field(description="The entries.")
    next_cursor: NextCursor


@dataclass(frozen=True, slots=True)
class RunRequest(RunOrder):
    """A run to enqueue."""


class Why(BaseModel, extra="allow"):
    """Why a run is not moving. Further fields are facts that depend on the reason."""

    run_id: str = field("ID of the run.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80")
    status: Status = field("Status of the run.", "queued")
    reason: str = field("Stable code of the reason.", "behind_run")
    detail: str = field("One sentence.", "It is behind run 'run_019…' of its session. That run: Worker 'w' executes…")


class RunReceipt(BaseModel, from_attributes=True):
    """What a key without the scope `runs:read` is shown of a run: no text, and nothing that the run has made."""

    id: str = field("Its ID.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80")
    team: TeamId
    session_id: SessionId
    user_id: UserId
    status: Status = field("Its status.", "queued")
    position: int = field("Position in its session, from 1.", 3)
    retry_of: str | None = field("The run it repeats.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80", None)
    created_at: Time = Field(description="When it was accepted.")

    @classmethod
    def of(cls, run: Run, principal: Principal) -> "Run | RunReceipt":
        """Return *run*, or what *principal* may see of it."""
        return run if principal.has_scope(Scope.RUNS_READ) else cls.model_validate(run)


class RunPage(Page[Run]):
    """A page of runs, newest first."""


class PendingPage(Page[PendingCall]):
    """A page of calls that wait for a decision, oldest first."""


class Decisions(BaseModel):
    """The calls of a run that asked for a decision, oldest first."""

    data: list[PendingCall] = Field(description="Each with what was decided; null: nothing yet.")


class ContinueRequest(BaseModel, extra="forbid"):
    """Decisions about pending calls of a run."""

    decisions: list[Decision] = Field(min_length=1, max_length=1000, description="What is decided, a call once each.")
    approver: Annotated[
        str | None,
        field("The person who decided, as your program names them; recorded with the decisions.", "ada", schema=NAME),
    ] = None


class MessagePage(Page[Message]):
    """A page of messages, oldest first."""


class Session(BaseModel, from_attributes=True):
    """One user's conversation with one team."""

    id: SessionId = Field(validation_alias="session_id")
    team: TeamId
    user_id: UserId
    name: str | None = field("Name for people.", "Where is my parcel?", None)
    description: str | None = field("Description for people.", "Sent on Monday, not there on Friday.", None)
    tags: list[str] = field("Tags for filtering lists.", ["parcel", "urgent"])
    metadata: Metadata
    state: dict[str, Any] = field("The `session_state` that its tools read and change.", {"ticket": 17})
    run_count: int = field("Number of its runs.", 3)
    message_count: int = field("Number of its messages; also the `seq` of the newest one.", 8)
    summary: SessionSummary | None = field(
        "Which part of it the summary covers; null: it has no summary.", {"version": 2, "covers_through_seq": 40}, None
    )
    created_at: Time = Field(description="When its first run was accepted.")
    updated_at: Time = Field(description="Time of the last change: a run, a message or an edit.")


class SessionChange(BaseModel, extra="forbid"):
    """Fields to replace. An omitted field is not changed; null removes a name or a description."""

    name: Annotated[str | None, field("Name for people.", "Where is my parcel?", None, schema=NAME)] = None
    description: Annotated[
        str | None, field("Description for people.", "Sent on Monday.", None, schema=DESCRIPTION)
    ] = None
    tags: list[Annotated[str, WithJsonSchema({"type": "string"} | NAME)]] = Field(
        default_factory=list,
        max_length=bounds.TAGS,
        description="All tags; they replace the old ones.",
        examples=[["parcel", "urgent"]],
    )
    metadata: Metadata = Field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Return the fields that were sent.

        Raises:
            InvalidText, InvalidJson, ValueTooLarge
        """
        values = self.model_dump(exclude_unset=True)
        for name, value in values.items():
            if value is not None:
                bounds.OF_SESSION[name](value, field=name)
        return values


class Requested(BaseModel):
    """The response to a request for a refresh of a summary."""

    refresh: Refresh | None = Field(description="The refresh; null: the summary already covers all finished runs.")


class SessionPage(Page[Session]):
    """A page of sessions, latest activity first."""


class Team(BaseModel):
    """A team that live workers serve."""

    team: TeamId
    versions: list[str] = field("Versions of its definition; more than one during a deploy.", ["3f2a9c"])
    workers: int = field("Number of live workers that serve it.", 4)
    queues: list[str] = field("Queues that these workers consume.", ["resumed", "runs"])


class TeamPage(BaseModel):
    """All teams, sorted by ID."""

    data: list[Team] = Field(description="The teams.")
    next_cursor: None = field("Always null: there is only one page.", None)


class Problem(BaseModel):
    """An error in the format of RFC 9457."""

    type: str = field("A URN that ends with the code.", "urn:team-sessions:error:run_not_found")
    title: str = field("The code in words.", "run not found")
    status: int = field("The HTTP status.", 404)
    code: str = field("A stable code. The handbook lists all codes.", "run_not_found")
    detail: str = field("What was found, what was expected, what to do.", "There is no run 'r' that this key may see.")
    retry: bool = field("Whether the same request can succeed later.", False)
