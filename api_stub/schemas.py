"""Bodies, pages and answers of the API that are not dataclasses of `worker.domain`.

Times are RFC 3339 in UTC with six decimals. Positions and seqs count from 1.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field, WithJsonSchema

from worker.domain import Message, Refresh, Run, RunOrder, SessionSummary, Status, check_json
from worker.domain.fields import TEXT, Metadata, SessionId, TeamId, Time, UserId, field

NextCursor = Annotated[
    str | None, field("Send it as `cursor` to get the next page; null: this is the last page.", "cnVuczoi…", None)
]
T = TypeVar("T")
Texts = list[Annotated[str, WithJsonSchema({"type": "string"} | TEXT)]]
Responses = dict[int | str, dict[str, Any]]
_LOCATION = {"Location": {"description": "Where to read it.", "schema": {"type": "string"}}}
COMMITTED: Responses = {202: {"description": "It is committed.", "headers": _LOCATION}}


def text_answer(media_type: str, description: str) -> Responses:
    """Return the OpenAPI description of an answer that is not one JSON value."""
    return {200: {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}}


class Page(BaseModel, Generic[T]):
    """A page of a list."""

    data: list[T] = Field(description="The entries.")
    next_cursor: NextCursor


@dataclass(frozen=True, slots=True)
class RunRequest(RunOrder):
    """A run to be accepted."""


class Why(BaseModel, extra="allow"):
    """Why a run is not moving. Further fields are facts that depend on the reason."""

    run_id: str = field("ID of the run.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80")
    status: Status = field("Status of the run.", "queued")
    reason: str = field("Stable code of the reason.", "behind_run")
    detail: str = field("One sentence.", "It is behind run 'run_019…': the runs of a session execute one by one.")


class RunPage(Page[Run]):
    """A page of runs, newest first."""


class MessagePage(Page[Message]):
    """A page of messages, oldest first."""


class Session(BaseModel, from_attributes=True):
    """One user's conversation with one team."""

    id: SessionId = Field(validation_alias="session_id")
    team: TeamId
    user_id: UserId
    name: str | None = field("Name for people.", "Where is my parcel?", None)
    description: str | None = field("Description for people.", "Sent on Monday, not there on Friday.", None)
    tags: list[str] = field("Tags to find it by.", ["parcel", "urgent"])
    metadata: Metadata
    state: dict[str, Any] = field("`session_state`, which its tools read and change.", {"ticket": 17})
    run_count: int = field("Number of its runs.", 3)
    message_count: int = field("Number of its messages; the seq of the newest.", 8)
    summary: SessionSummary | None = field(
        "How much of it is condensed; null: nothing.", {"version": 2, "covers_through_seq": 40}, None
    )
    created_at: Time = Field(description="When its first run was accepted.")
    updated_at: Time = Field(description="Time of the last change: a run, a message or an edit.")


class SessionChange(BaseModel, extra="forbid"):
    """Fields to replace. An omitted field stays as it is; null removes a name or a description."""

    name: Annotated[str | None, field("Name for people.", "Where is my parcel?", None, schema=TEXT)] = None
    description: Annotated[str | None, field("Description for people.", "Sent on Monday.", None, schema=TEXT)] = None
    tags: Texts = Field(
        default_factory=list, description="All tags; they replace the old ones.", examples=[["parcel", "urgent"]]
    )
    metadata: Metadata = Field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Return the fields that were sent.

        Raises:
            InvalidText, InvalidJson
        """
        values = self.model_dump(exclude_unset=True)
        for name, value in values.items():
            check_json(value, field=name)
        return values


class Requested(BaseModel):
    """The result of a request for a refresh."""

    refresh: Refresh | None = Field(description="The refresh; null: the summary already covers every run that ended.")


class SessionPage(Page[Session]):
    """A page of sessions, latest activity first."""


class Team(BaseModel):
    """A team that live workers serve."""

    team: TeamId
    versions: list[str] = field("Versions of its definition; more than one during a deploy.", ["3f2a9c"])
    workers: int = field("Number of live workers that serve it.", 4)
    queues: list[str] = field("Queues that these workers consume.", ["resumed", "runs"])


class TeamPage(BaseModel):
    """All teams, by id."""

    data: list[Team] = Field(description="The teams.")
    next_cursor: None = field("Always null: there is only one page.", None)


class Problem(BaseModel):
    """An error in the format of RFC 9457."""

    type: str = field("A URN that ends with the code.", "urn:team-sessions:error:run_not_found")
    title: str = field("The code in words.", "run not found")
    status: int = field("The HTTP status.", 404)
    code: str = field("Stable; the handbook lists all codes.", "run_not_found")
    detail: str = field("What was found, what was expected, what to do.", "There is no run 'r' that this key may see.")
    retry: bool = field("Whether the same request can succeed later.", False)
