"""What goes in and out, field by field.

Times are RFC 3339 in UTC with six decimals; positions and seqs count from 1.
"""

import re
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from worker.clock import rfc3339
from worker.domain import message as messages
from worker.domain import run as runs
from worker.domain import session as sessions
from worker.domain.text import ID_LIMIT, JSON_DEPTH, check_json, check_text
from worker.store import teams


def storable(field: str) -> AfterValidator:
    """Return the check of an id in a path or a query: a NUL in it would be an error of Postgres."""
    return AfterValidator(partial(check_text, field=field))


def field(description: str, *examples: Any) -> Any:
    """Return the description of a field, with examples of it."""
    return Field(description=description, examples=list(examples))


# What `domain.text` checks, as a schema can say it: for the description alone, since a refusal there has its own code.
TEXT: dict[str, Any] = {"pattern": r"^[^\x00]*$"}
INPUT: dict[str, Any] = {"minLength": 1, "pattern": r"^[^\x00]*[^\x00\s][^\x00]*$"}
ID: dict[str, Any] = {"minLength": 1, "maxLength": ID_LIMIT, "pattern": r"^[^\x00-\x1f\x7f]*$"}


def check_rfc3339(time: object) -> object:
    """Refuse what a parser would take for a time beside RFC 3339: numbers, and text that holds one."""
    if time is not None and not (isinstance(time, str) and _RFC3339.fullmatch(time)):
        raise ValueError("expected a time as RFC 3339 spells it, such as 2030-01-31T12:00:00Z")
    return time


_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:]{8}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")
_TIME = {"type": "string", "format": "date-time", "examples": ["2026-03-01T09:30:00.123456Z"]}
Time = Annotated[datetime, PlainSerializer(rfc3339, str), WithJsonSchema(_TIME)]
RunId = Annotated[str, field("Id of the run; ids sort by time.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80")]
TeamId = Annotated[str, field("Id of the team.", "support")]
UserId = Annotated[str, field("Its user; '' is nobody in particular.", "u-7", "")]
SessionId = Annotated[str, field("Id of the session, unique for its user.", "s-42")]
Metadata = Annotated[
    dict[str, Any],
    field(f"Yours; stored and returned as it is. At most {JSON_DEPTH} levels deep.", {"ticket": 17}),
]
NextCursor = Annotated[
    str | None, field("Pass it as `cursor` for the next page; null: this was the last.", "cnVuczoi…", None)
]


class RunRequest(BaseModel):
    """A run to be accepted."""

    model_config = ConfigDict(extra="forbid")

    team: str = Field(description="Id of a team that some worker serves.", examples=["support"], json_schema_extra=ID)
    input: str = Field(
        description="What the user says; not blank.",
        examples=["My parcel has not come. What now?"],
        json_schema_extra=INPUT,
    )
    session_id: str | None = Field(
        None,
        description="The session that it continues, unique for its user; without it, a new one.",
        examples=["s-42"],
        json_schema_extra=ID,
    )
    user_id: str | None = Field(
        None,
        description="The user that a service key acts for. A user's own key leaves it out.",
        examples=["u-7"],
        json_schema_extra=ID | {"minLength": 0},
    )
    on_busy: runs.OnBusyName = Field(
        "enqueue",
        examples=["interrupt"],
        description="When the session has an unfinished run: wait for it; be refused (409); cancel the oldest one and "
        "keep what it wrote; cancel it and leave it out of later contexts; or join the input to the newest queued run.",
    )
    priority: runs.PriorityName = Field(
        "interactive",
        examples=["background"],
        description="'background': executed when workers for it have time; nobody waits for it.",
    )
    not_before: Annotated[AwareDatetime | None, BeforeValidator(check_rfc3339)] = Field(
        None, description="It does not start before this time.", examples=["2030-01-31T12:00:00Z"]
    )
    timeout: float | None = Field(
        None,
        gt=0,
        le=86_400,
        strict=True,
        examples=[120],
        description="Seconds that it may take from its start; at most what its team allows.",
    )
    metadata: Metadata = Field(default_factory=dict)


class RunError(BaseModel):
    """Why a run failed."""

    code: str = field("Stable; the handbook has them all.", "model_refused")
    message: str = field("A sentence for people, without message text.", "Model 'm' refused the request: 400.")


class Usage(BaseModel):
    """What a run used of its models."""

    model_calls: int = field("Calls whose reply was written.", 2)
    input_tokens: int = field("Tokens sent.", 1250)
    cached_input_tokens: int = field("Those of input_tokens that the provider had cached.", 1024)
    output_tokens: int = field("Tokens received.", 310)


class Run(BaseModel):
    """One input and everything done to answer it."""

    id: RunId
    team: TeamId
    session_id: SessionId
    user_id: UserId
    status: runs.Status = field("A terminal status (the last three) never changes.", "completed")
    position: int = field("Place in its session, from 1.", 3)
    attempt: int = field("Claims so far: more than one after a crash, a hand-over or a retry.", 1)
    input: str = field("What the user said.", "My parcel has not come. What now?")
    output: str | None = field("The final answer, once completed.", "I have opened a ticket.", None)
    error: RunError | None = field("Why it failed, once failed.", {"code": "model_refused", "message": "…"}, None)
    usage: Usage = Field(description="What it used so far.")
    retry_of: str | None = field("The run whose input it repeats.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80", None)
    metadata: Metadata
    created_at: Time = Field(description="When it was accepted.")
    started_at: Time | None = Field(description="When it was first claimed.")
    finished_at: Time | None = Field(description="When it ended.")

    @classmethod
    def of(cls, run: runs.Run) -> "Run":
        return cls.model_validate(run, from_attributes=True)


class RunPage(BaseModel):
    """Some runs, newest first, and where to go on."""

    data: list[Run] = Field(description="The runs.")
    next_cursor: NextCursor


class ToolCall(BaseModel):
    """A model's wish to call a tool."""

    id: str = field("Unique in its message.", "call_1")
    name: str = field("The tool.", "open_ticket")
    arguments: str = field("The model's text, meant to be a JSON object.", '{"subject": "parcel"}')


class Message(BaseModel):
    """One entry of the history."""

    seq: int = field("Place in its session, from 1, without gaps.", 7)
    run_id: RunId
    role: Literal["user", "assistant", "tool"] = field("Who speaks.", "assistant")
    author: str = field("The user, the team, a member or the tool.", "support")
    delegation: str | None = field("The delegation that a member's message belongs to.", "2.0", None)
    content: str = field("What is said.", "I have opened a ticket.")
    tool_calls: list[ToolCall] = Field(description="The tools that a reply asks for.")
    tool_call_id: str | None = field("The call that a tool's result answers.", "call_1", None)
    created_at: Time = Field(description="When it was written.")

    @classmethod
    def of(cls, message: messages.Message) -> "Message":
        return cls.model_validate(message, from_attributes=True)


class MessagePage(BaseModel):
    """Some messages, oldest first, and where to go on."""

    data: list[Message] = Field(description="The messages.")
    next_cursor: NextCursor


class SessionSummary(BaseModel):
    """How far the past of a session is condensed."""

    version: int = field("Counts from 1.", 2)
    covers_through_seq: int = field("The seq of the last message that it covers.", 40)

    @classmethod
    def of(cls, session: sessions.SessionRow) -> "SessionSummary | None":
        """Say whether a session has a summary."""
        if not session.summary_version:
            return None
        return cls(version=session.summary_version, covers_through_seq=session.summary_seq)


class Session(BaseModel):
    """One user's conversation with one team."""

    id: SessionId
    team: TeamId
    user_id: UserId
    name: str | None = field("For people.", "Where is my parcel?", None)
    description: str | None = field("For people.", "Sent on Monday, not there on Friday.", None)
    tags: list[str] = field("For finding it again.", ["parcel", "urgent"])
    metadata: Metadata
    state: dict[str, Any] = field("What tools keep in it, `session_state`.", {"ticket": 17})
    run_count: int = field("Runs so far.", 3)
    message_count: int = field("Messages so far: the seq of the newest.", 8)
    summary: SessionSummary | None = field(
        "How far its past is condensed; null: not at all.", {"version": 2, "covers_through_seq": 40}, None
    )
    created_at: Time = Field(description="When its first run was accepted.")
    updated_at: Time = Field(description="When a run, a message or a change was last written.")

    @classmethod
    def of(cls, session: sessions.SessionRow) -> "Session":
        fields = {name: getattr(session, name) for name in cls.model_fields if name not in ("id", "team", "summary")}
        return cls(id=session.session_id, team=session.team, summary=SessionSummary.of(session), **fields)


class SessionChange(BaseModel):
    """What is to be replaced. A field that is left out stays as it is; null removes a name or a description."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(
        None, description="For people.", examples=["Where is my parcel?", None], json_schema_extra=TEXT
    )
    description: str | None = Field(
        None, description="For people.", examples=["Sent on Monday.", None], json_schema_extra=TEXT
    )
    tags: list[Annotated[str, WithJsonSchema({"type": "string"} | TEXT)]] = Field(
        default_factory=list, description="All of them.", examples=[["parcel", "urgent"]]
    )
    metadata: Metadata = Field(default_factory=dict)

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

    data: list[Session] = Field(description="The sessions.")
    next_cursor: NextCursor


class Team(BaseModel):
    """A team, as live workers serve it."""

    team: TeamId
    versions: list[str] = field("Of its definition; several while a deploy is under way.", ["3f2a9c"])
    workers: int = field("Live workers that serve it.", 4)
    queues: list[str] = field("Queues that these consume.", ["resumed", "runs"])

    @classmethod
    def of(cls, served: teams.Served) -> "Team":
        return cls(team=served.id, versions=served.versions, workers=served.workers, queues=served.queues)


class TeamPage(BaseModel):
    """All teams, by id."""

    data: list[Team] = Field(description="The teams.")
    next_cursor: None = field("Always null: this is all.", None)


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = field("A URN that ends with the code.", "urn:team-sessions:error:run_not_found")
    title: str = field("The code in words.", "run not found")
    status: int = field("The HTTP status.", 404)
    code: str = field("Stable; the handbook has them all.", "run_not_found")
    detail: str = field("What was found, what was expected, what to do.", "There is no run 'r' that this key may see.")
    retry: bool = field("Whether the same request can succeed later.", False)
