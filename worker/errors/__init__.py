"""Every error that a caller can meet, drawn once.

    TeamSessionsError
    ├── SettingsInvalid, TeamsInvalid, DefinitionInvalid, ToolNotDescribable, SchemaOutdated, PortTaken    at start
    ├── RequestRefused                           the caller can mend it
    │   ├── InvalidText, InvalidJson, InvalidIdentifier, EmptyInput, InputTooLarge, InvalidEventId, InvalidCursor
    │   ├── UnknownTeam, RunNotFound, SessionNotFound, InvalidTime, OrderInvalid, SessionOfOtherTeam, AmbiguousSession
    │   ├── IdempotencyConflict, RunGone, SessionBusy, QueueFull, RunNotRetryable, SummaryNotFound
    │   ├── BatchNotFound, BatchInvalid, BatchConflict
    │   └── KeyMissing, KeyInvalid, ScopeMissing, TeamForbidden, UserForbidden, KeyBound, RateLimited
    ├── ModelError                               what a model call can end with; of the last two again does not help
    │   └── ModelRateLimited/ModelBusy, ModelUnavailable, ModelSilent, ModelStreamBroken, ModelRefused, ModelEmptyReply
    └── KeyNotFound, DatabaseUnavailable, LeaseLost, LimitReached, ReplayDiverged, WorkersLost, SummaryFailed, RunFailed

The first paragraph of an error's docstring is its message; `{fact}` is filled in from the constructor. It says what was
found, what was expected and what to do. It carries identifiers, never message text and never a secret. `code` is stable
and part of the contract, `status` is the HTTP status, `retry` tells whether the same call can succeed later.
"""

from worker.errors.base import (
    TeamSessionsError,
    first_paragraph,
)
from worker.errors.model import (
    ModelBusy,
    ModelEmptyReply,
    ModelError,
    ModelRateLimited,
    ModelRefused,
    ModelSilent,
    ModelStreamBroken,
    ModelUnavailable,
)
from worker.errors.process import (
    DatabaseUnavailable,
    DefinitionInvalid,
    KeyNotFound,
    LeaseLost,
    LimitReached,
    PortTaken,
    ReplayDiverged,
    RunFailed,
    SchemaOutdated,
    SettingsInvalid,
    SummaryFailed,
    TeamsInvalid,
    ToolNotDescribable,
    WorkersLost,
)
from worker.errors.refused import (
    AmbiguousSession,
    BatchConflict,
    BatchInvalid,
    BatchNotFound,
    EmptyInput,
    IdempotencyConflict,
    InputTooLarge,
    InvalidCursor,
    InvalidEventId,
    InvalidIdentifier,
    InvalidJson,
    InvalidText,
    InvalidTime,
    KeyBound,
    KeyInvalid,
    KeyMissing,
    OrderInvalid,
    QueueFull,
    RateLimited,
    RequestRefused,
    RunGone,
    RunNotFound,
    RunNotRetryable,
    ScopeMissing,
    SessionBusy,
    SessionNotFound,
    SessionOfOtherTeam,
    SummaryNotFound,
    TeamForbidden,
    UnknownTeam,
    UserForbidden,
)

__all__ = [
    "AmbiguousSession",
    "BatchConflict",
    "BatchInvalid",
    "BatchNotFound",
    "DatabaseUnavailable",
    "DefinitionInvalid",
    "EmptyInput",
    "IdempotencyConflict",
    "InputTooLarge",
    "InvalidCursor",
    "InvalidEventId",
    "InvalidIdentifier",
    "InvalidJson",
    "InvalidText",
    "InvalidTime",
    "KeyBound",
    "KeyInvalid",
    "KeyMissing",
    "KeyNotFound",
    "LeaseLost",
    "LimitReached",
    "ModelBusy",
    "ModelEmptyReply",
    "ModelError",
    "ModelRateLimited",
    "ModelRefused",
    "ModelSilent",
    "ModelStreamBroken",
    "ModelUnavailable",
    "OrderInvalid",
    "PortTaken",
    "QueueFull",
    "RateLimited",
    "ReplayDiverged",
    "RequestRefused",
    "RunFailed",
    "RunGone",
    "RunNotFound",
    "RunNotRetryable",
    "SchemaOutdated",
    "ScopeMissing",
    "SessionBusy",
    "SessionNotFound",
    "SessionOfOtherTeam",
    "SettingsInvalid",
    "SummaryFailed",
    "SummaryNotFound",
    "TeamForbidden",
    "TeamSessionsError",
    "TeamsInvalid",
    "ToolNotDescribable",
    "UnknownTeam",
    "UserForbidden",
    "WorkersLost",
    "first_paragraph",
]
