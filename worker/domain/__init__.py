"""What things are: runs, messages, events, principals. Values only; nothing here reads or writes anything.

Other rooms import these names from here: `from worker.domain import Run, Status`.
"""

from worker.domain import bounds
from worker.domain.backoff import Backoff, ask_again_at_once, silence_limit
from worker.domain.batch import (
    Batch,
    BatchOrder,
    BatchStatus,
    Budget,
    Estimate,
    Instant,
    Item,
    ItemOutcome,
    ItemStatus,
    Kind,
    Limits,
    PausedBy,
    Price,
    Result,
    Selection,
    Spent,
)
from worker.domain.chat import AskModel, ChatMessage, ChatModel, ChatRequest, Reply, ToolDescription
from worker.domain.dispatch import Dispatch, run_dispatch, summary_dispatch
from worker.domain.event import (
    DelegationProgress,
    Event,
    EventId,
    EventType,
    ToolCallProgress,
    message_completed,
    message_id,
    terminal_event,
)
from worker.domain.identity import new_id
from worker.domain.lease import LeaseState
from worker.domain.message import (
    Draft,
    Excerpt,
    Extra,
    Message,
    Role,
    ToolCall,
    calls_with_results,
    open_calls,
    size_of,
)
from worker.domain.outcome import End, Outcome, parse_outcome
from worker.domain.pending import Decision, PendingCall, PendingKind, Verdict
from worker.domain.principal import SERVICE, Principal, Scope
from worker.domain.problem import Problem
from worker.domain.retention import Lifetimes, Retention
from worker.domain.run import (
    Claim,
    OnBusy,
    OnBusyName,
    Priority,
    PriorityName,
    Replay,
    Run,
    RunError,
    RunTrace,
    Status,
    Viewpoint,
)
from worker.domain.run_options import CONTRACT, NO_OPTIONS, RunOptions
from worker.domain.run_order import (
    NO_ORIGIN,
    BatchRun,
    Origin,
    RunOrder,
    order_again,
    parse_batch_run,
    parse_order,
    validate_order,
    validate_time,
)
from worker.domain.session import SessionRow, SessionSummary
from worker.domain.state import NO_CHANGE, StateChange
from worker.domain.stop import Paused, Reason, Stop, Stopped
from worker.domain.summary import Due, Refresh, SessionSummaryManager, Summary, SummaryDraft
from worker.domain.text import ID_LIMIT, check_id, check_input, check_json, check_object, check_text, check_texts, mend
from worker.domain.usage import Usage
from worker.domain.weight import CHARS_PER_TOKEN, begin_of, weight, width
