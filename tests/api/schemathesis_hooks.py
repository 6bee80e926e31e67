"""What schemathesis leaves out of its requests and findings, each with its reason. It loads this file itself."""

import os
from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import EnsureResourceAvailability, RejectedPositiveData, UseAfterFree

KEPT = {"u-kept", "s-kept"}  # whom and what the other requests name
LONGEST_S = 0.5
FREE = ("metadata ", "session_state ", "dependencies ")  # objects that a caller shapes
UNSAYABLE: dict[str, str | tuple[str, ...]] = {
    "invalid_cursor": "",  # a cursor is opaque: the API makes it, nobody else
    "invalid_event_id": "",  # it is one of the run's own
    "invalid_time": ("not_before ", "since ", "until "),  # a schema has no word for the range of a time
    "invalid_text": FREE,  # a schema cannot forbid NUL at every depth,
    "invalid_json": FREE,  # nor bound the depth
    "body_too_large": "",  # nor bound the size of a list's items together
    "batch_invalid": "",  # nor say which fields of an order go together, and which ids there are
}


@schemathesis.hook
def before_call(_context: Any, case: schemathesis.Case, _kwargs: Any) -> None:
    """Spare what is kept, wait for nothing that takes long, and name the items of a batch in one way only.

    An erasure of what the other requests name becomes one of what is absent; other users and sessions are erased. The
    batch that takes items is not cancelled. A stream that would stay open becomes that of a run that has ended. A wait
    for a run's end, of up to a minute, is cut.
    """
    if case.method == "DELETE":
        for name, id in (case.path_parameters or {}).items():
            case.path_parameters[name] = "absent" if id in KEPT else id
    if case.path.endswith("/cancel") and (case.path_parameters or {}).get("batch_id") == os.environ["OPEN_BATCH"]:
        case.path_parameters["batch_id"] = os.environ["CANCELLED_BATCH"]
    if case.path.endswith("/events") and str((case.path_parameters or {}).get("run_id")).startswith("run_"):
        case.path_parameters["run_id"] = os.environ["ENDED_RUN"]
    if isinstance(case.body, dict) and isinstance(case.body.get("requests"), list):
        case.body.pop("session_ids", None)
        case.body.pop("run_ids", None)
    try:
        cut = LONGEST_S < float((case.query or {}).get("wait", 0)) <= 60
    except (TypeError, ValueError):
        return
    if cut:
        case.query["wait"] = LONGEST_S


@schemathesis.hook
def filter_failure(_context: Any, failure: Failure, case: schemathesis.Case, response: schemathesis.Response) -> bool:
    """Leave out refusals of requests that the description allows where no schema can say what is refused.

    And two findings that are none: a list that is too long is refused by the size of its body, before it is counted;
    and what was made or deleted for one user says nothing about another user's.
    """
    if isinstance(failure, AcceptedNegativeData):
        return response.status_code != 413
    if isinstance(failure, EnsureResourceAvailability | UseAfterFree):
        return "user_id" not in (case.query or {})
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    start = UNSAYABLE.get(problem["code"])
    return start is None or not problem["detail"].startswith(start)
