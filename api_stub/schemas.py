"""What goes in and out, field by field.

Times are RFC 3339 in UTC with six decimals; positions and seqs count from 1.
"""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

from worker.clock import rfc3339
from worker.domain import message as messages
from worker.domain import run as runs
from worker.domain import session as sessions
from worker.domain.text import JSON_DEPTH, check_json, check_text
from worker.store import teams

Time = Annotated[datetime, PlainSerializer(rfc3339, str)]


def storable(field: str) -> AfterValidator:
    """Return the check of an id in a path or a query: a NUL in it would be an error of Postgres."""
    return AfterValidator(partial(check_text, field=field))


class RunRequest(BaseModel):
    """A run to be accepted."""

    model_config = ConfigDict(extra="forbid")

    team: str = Field(description="Id of a team that some worker serves.", examples=["support"])
    input: str = Field(description="What the user says.", examples=["My parcel has not come. What now?"])
    session_id: str | None = Field(
        None,
        description="The session that it continues, unique for its user; without it, a new one.",
        examples=["s-42"],
    )
    user_id: str | None = Field(
        None, description="The user that a service key acts for. A user's own key leaves it out.", examples=["u-7"]
    )
    on_busy: runs.OnBusyName = Field(
        "enqueue",
        description="When the session has an unfinished run: wait for it; be refused (409); cancel the oldest one and "
        "keep what it wrote; cancel it and leave it out of later contexts; or join the input to the newest queued run.",
    )
    priority: runs.PriorityName = Field(
        "interactive", description="'background': executed when workers for it have time; nobody waits for it."
    )
    not_before: AwareDatetime | None = Field(
        None, description="It does not start before this time.", examples=["2030-01-31T12:00:00Z"]
    )
    timeout: float | None = Field(
        None, gt=0, le=86_400, description="Seconds that it may take from its start; at most what its team allows."
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict, description=f"Yours; stored and returned as it is. At most {JSON_DEPTH} levels deep."
    )


class RunError(BaseModel):
    """Why a run failed."""

    code: str
    message: str


class Usage(BaseModel):
    """What a run used of its models."""

    model_calls: int
    input_tokens: int
    cached_input_tokens: int = Field(description="Part of input_tokens.")
    output_tokens: int


class Run(BaseModel):
    """One input and everything done to answer it."""

    id: str
    team: str
    session_id: str
    user_id: str
    status: runs.Status
    position: int = Field(description="Place in its session, from 1.")
    attempt: int = Field(description="Claims so far.")
    input: str
    output: str | None = Field(description="The final answer, once completed.")
    error: RunError | None
    usage: Usage
    retry_of: str | None
    metadata: dict[str, Any]
    created_at: Time
    started_at: Time | None
    finished_at: Time | None

    @classmethod
    def of(cls, run: runs.Run) -> "Run":
        return cls.model_validate(run, from_attributes=True)


class RunPage(BaseModel):
    """Some runs, newest first, and where to go on."""

    data: list[Run]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null: this was the last.")


class ToolCall(BaseModel):
    """A model's wish to call a tool. `arguments` is its text, meant to be a JSON object."""

    id: str
    name: str
    arguments: str


class Message(BaseModel):
    """One entry of the history."""

    seq: int = Field(description="Place in its session, from 1, without gaps.")
    run_id: str
    role: Literal["user", "assistant", "tool"]
    author: str = Field(description="The user, the team, a member or the tool.")
    delegation: str | None = Field(description="The delegation that a member's message belongs to.")
    content: str
    tool_calls: list[ToolCall]
    tool_call_id: str | None = Field(description="The call that a tool's result answers.")
    created_at: Time

    @classmethod
    def of(cls, message: messages.Message) -> "Message":
        return cls.model_validate(message, from_attributes=True)


class MessagePage(BaseModel):
    """Some messages, oldest first, and where to go on."""

    data: list[Message]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null: this was the last.")


class SessionSummary(BaseModel):
    """How far the past of a session is condensed."""

    version: int = Field(description="Counts from 1.")
    covers_through_seq: int = Field(description="The seq of the last message that it covers.")

    @classmethod
    def of(cls, session: sessions.SessionRow) -> "SessionSummary | None":
        """The one place where a session's row says whether it has a summary: none has, yet."""
        return None


class Session(BaseModel):
    """One user's conversation with one team."""

    id: str
    team: str
    user_id: str
    name: str | None
    description: str | None
    tags: list[str]
    metadata: dict[str, Any]
    state: dict[str, Any]
    run_count: int
    message_count: int
    summary: SessionSummary | None
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, session: sessions.SessionRow) -> "Session":
        fields = {name: getattr(session, name) for name in cls.model_fields if name not in ("id", "summary")}
        return cls(id=session.session_id, summary=SessionSummary.of(session), **fields)


class SessionChange(BaseModel):
    """What is to be replaced. A field that is left out stays as it is; null removes a name or a description."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, examples=["Where is my parcel?"])
    description: str | None = Field(None, examples=["Sent on Monday, not there on Friday."])
    tags: list[str] = Field(default_factory=list, examples=[["parcel", "urgent"]])
    metadata: dict[str, Any] = Field(default_factory=dict, examples=[{"ticket": 17}])

    def given(self) -> dict[str, Any]:
        """Return the fields that were sent.

        Raises:
            InvalidText, InvalidJson
        """
        values = self.model_dump(exclude_unset=True)
        for field, value in values.items():
            check_json(value, field=field)
        return values


class SessionPage(BaseModel):
    """Some sessions, latest activity first, and where to go on."""

    data: list[Session]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null: this was the last.")


class Team(BaseModel):
    """A team, as live workers serve it."""

    team: str
    versions: list[str]
    workers: int
    queues: list[str]

    @classmethod
    def of(cls, served: teams.Served) -> "Team":
        return cls(team=served.id, versions=served.versions, workers=served.workers, queues=served.queues)


class TeamPage(BaseModel):
    """All teams, by id."""

    data: list[Team]
    next_cursor: None = Field(description="Always null: this is all.")


class Problem(BaseModel):
    """An error, as RFC 9457 has it. `code` is stable; `retry` tells whether the same request can succeed later."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    retry: bool
