"""Answers that were paid for again. Only those in flight may be: their process was hit before it could write them, or
the model had answered nothing for so long that the attempt ended before the answer came.

A frozen process whose run was claimed by another may also request one reply when it continues: it learns of the claim
with its next write, or from its keeper.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ops.chaos.evidence import Evidence
from ops.chaos.system import LEASE_S

ARRIVES_S = 1.0  # what an answer takes at most from the model to the process
LASTS_S = {"fill_disk": LEASE_S + 2}  # at most; the process cannot write until then


@dataclass(frozen=True, slots=True)
class PaidAgain:
    """A reply that the model had answered, and that was requested again. `in_flight`: no process held it."""

    run_id: str
    fence: int
    turn: str
    in_flight: bool
    story: str  # what happened to the run between the two requests, and to the stores, in seconds after the first


def paid_again(e: Evidence) -> list[PaidAgain]:
    """Return them all, from the journal of the model."""
    answered = {call["call"]: call["at"] for call in e.calls if call["event"] == "answered"}
    requests: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for call in e.calls:
        if call["event"] == "asked" and "by" in call:
            run_id, _fence, delegation, turn = call["by"].split()
            requests[run_id, delegation, turn].append(call)
    claims = {(note.key, note.fence): note for note in e.audit if note.what == "claim"}
    given_up = {(note.key, note.fence): note.at.timestamp() for note in e.audit if note.what == "requeue"}
    again = []
    for (run_id, delegation, turn), calls in requests.items():
        for call, next_call in itertools.pairwise(calls):
            if call["call"] in answered:
                fence, next_fence = int(call["by"].split()[1]), int(next_call["by"].split()[1])
                claim, earlier = claims.get((run_id, fence)), claims.get((run_id, next_fence))
                hit = was_hit(e.hits, claim and claim.pid, since=call["at"], until=next_call["at"])
                if earlier is not None and next_fence < fence:  # the asker was frozen, and its run claimed by another
                    hit |= was_hit(e.hits, earlier.pid, since=earlier.at.timestamp(), until=next_call["at"])
                hit |= given_up.get((run_id, fence), math.inf) < answered[call["call"]] + ARRIVES_S
                story = tell(e, run_id, since=call["at"], until=next_call["at"])
                again.append(PaidAgain(run_id, fence, f"{turn} of {delegation}", hit, story))
    return again


def was_hit(hits: Sequence[dict[str, Any]], pid: int | None, *, since: float, until: float) -> bool:
    """Tell whether a process was killed, stopped, frozen or cut off alone in this time."""
    own = [(hit["at"], hit["at"] + LASTS_S.get(hit["fault"], 1.0)) for hit in hits if hit["pid"] == pid]
    return any(begun <= until and over >= since for begun, over in own)


def tell(e: Evidence, run_id: str, *, since: float, until: float) -> str:
    """Return what happened to a run, and to the stores, in a time."""
    notes = [(n.at.timestamp(), f"{n.what} {n.fence} by {n.pid}") for n in e.audit if n.key == run_id]
    faults = [(hit["at"], f"{hit['fault']} of {hit['pid']}") for hit in e.hits]
    answers = [(call["at"], f"{call['event']} {call['by']}") for call in e.calls if run_id in call.get("by", "")]
    happened = sorted([*notes, *faults, *answers])
    return ", ".join(f"{at - since:.1f} {what}" for at, what in happened if since - 10 <= at <= until)
