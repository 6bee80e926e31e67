"""Every error that a caller can meet.

    TeamSessionsError
    ├── SettingsInvalid, TeamsInvalid, DefinitionInvalid, ToolNotDescribable                               at start
    ├── SchemaOutdated, DatabaseUnusable, PortTaken, DirectoryTaken, DirectoryUnusable,
    │   DirectoryUntrusted, LoginInvalid, HostUnusable, BrokerUnusable, ProcessLimitTooLow
    │                                                                               at the start of a command
    ├── RequestRefused                           the caller can correct it
    │   ├── InvalidType, InvalidText, InvalidJson, InvalidIdentifier, EmptyInput, InputTooLarge, InvalidEventId
    │   ├── ValueTooLarge, InvalidCursor, UnknownParameter, NoLastSession, SchemaInvalid
    │   ├── UnknownTeam, RunNotFound, SessionNotFound, InvalidTime, ArgumentInvalid, OrderInvalid, SessionOfOtherTeam,
    │   │   AmbiguousSession, SessionOfThisRun
    │   ├── IdempotencyConflict, RunGone, SessionBusy, QueueFull, WorkersTooOld, RunNotRetryable, SummaryNotFound
    │   ├── PendingNotFound, AlreadyDecided, RunNotPaused, DecisionInvalid, ApproverNeeded, SessionPaused
    │   ├── BatchNotFound, BatchInvalid, BatchConflict
    │   ├── TooManyConnections, TooManyStreams, TooManyStreamsOfKey, SessionLocked
    │   └── KeyMissing, KeyInvalid, ScopeMissing, TeamForbidden, UserForbidden, KeyBound, RateLimited, ApiBusy
    ├── ModelError                               a failed model call; retrying the last ones does not help
    │   ├── ModelRateLimited/ModelBusy, ModelUnavailable, ModelSilent, ModelStreamBroken, SummaryUnusable
    │   └── ModelRefused/ModelContextExceeded, ModelAnswerInvalid/ModelNoAnswer, ModelAnswerTooLarge, ModelEmptyReply
    ├── KeyNotFound, DatabaseUnavailable, LeaseLost, LimitReached, ReplayDiverged, WorkersLost, WorkerExhausted,
    │   DecisionExpired, AnswerInvalid
    ├── InputRefused, OutputRefused, HookFailed  a hook of the team ended the run
    └── SummaryFailed, RunFailed

The first paragraph of an error's docstring is its message; `{fact}` is filled in from the constructor. It says what was
found, what was expected and what to do. It contains identifiers, never message text or a secret. `code` is stable and
part of the contract, `status` is the HTTP status, `retry` is True if the same call can succeed later.
"""

from worker.errors.base import *
from worker.errors.model import *
from worker.errors.pending import *
from worker.errors.process import *
from worker.errors.refused import *
