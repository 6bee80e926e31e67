"""Answers that were paid for again. Only those in flight may be: their process was hit before it could write them."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ops.chaos.evidence import Evidence


@dataclass(frozen=True, slots=True)
class PaidAgain:
    """A reply that the model had answered, and that was requested again. `in_flight`: its process was hit between."""

    run_id: str
    fence: int
    turn: str
    in_flight: bool
    story: str  # what happened to the run between the two requests, and to the stores, in seconds after the first


def paid_again(e: Evidence) -> list[PaidAgain]:
    """Return them all, from the journal of the model."""
    answered = {call["call"] for call in e.calls if call["event"] == "answered"}
    requests: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for call in e.calls:
        if call["event"] == "asked" and "by" in call:
            run_id, _fence, delegation, turn = call["by"].split()
            requests[run_id, delegation, turn].append(call)
    pids = {(note.key, note.fence): note.pid for note in e.audit if note.what == "claim"}
    again = []
    for (run_id, delegation, turn), calls in requests.items():
        for call, next_call in itertools.pairwise(calls):
            if call["call"] in answered:
                fence = int(call["by"].split()[1])
                hit = was_hit(e.hits, pids.get((run_id, fence)), since=call["at"], until=next_call["at"])
                story = tell(e, run_id, since=call["at"], until=next_call["at"])
                again.append(PaidAgain(run_id, fence, f"{turn} of {delegation}", hit, story))
    return again


def was_hit(hits: Sequence[dict[str, Any]], pid: int | None, *, since: float, until: float) -> bool:
    """Tell whether a process was killed, stopped, frozen or cut off alone in this time."""
    return any(hit["pid"] == pid and since - 1.0 <= hit["at"] <= until for hit in hits)


def tell(e: Evidence, run_id: str, *, since: float, until: float) -> str:
    """Return what happened to a run, and to the stores, in a time."""
    notes = [(n.at.timestamp(), f"{n.what} {n.fence} by {n.pid}") for n in e.audit if n.key == run_id]
    faults = [(hit["at"], f"{hit['fault']} of {hit['pid']}") for hit in e.hits]
    answers = [(call["at"], f"{call['event']} {call['by']}") for call in e.calls if run_id in call.get("by", "")]
    happened = sorted([*notes, *faults, *answers])
    return ", ".join(f"{at - since:.1f} {what}" for at, what in happened if since - 10 <= at <= until)
