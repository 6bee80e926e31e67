"""What a refresh has so far: where it begins, and when it is a version. Pure.

A refresh begins with the current summary, and each piece that it adds makes the next version. A rebuild begins with
nothing, in front of the first message, and is no version before it covers enough: a summary never covers less than it
did, and nobody reads a part of one. What was condensed by another prompt or model it does not go on with. Where the
first messages have gone with their lifetime, it begins with the current summary's text, which holds all that is left
of them, and in front of the first message that is there.
"""

from worker.domain.summary import SummaryDraft
from worker.store.summaries import Base
from worker.store.summary_jobs import Wanted


def begin(base: Base, wanted: Wanted, *, model: str, prompt_hash: str) -> SummaryDraft:
    """Return what the next piece is added to."""
    nothing = SummaryDraft(model, prompt_hash, replaces_seq=base.covers_seq, text="" if base.begins else base.text)
    if not wanted.rebuild:
        return SummaryDraft(model, prompt_hash, base.covers_seq, text=base.text, covers_seq=base.covers_seq)
    return wanted.draft if wanted.draft is not None and fits(wanted.draft, nothing) else nothing


def fits(kept: SummaryDraft, now: SummaryDraft) -> bool:
    """Tell whether a rebuild goes on with what was *kept*: made as it would be *now*, in place of the same summary."""
    return (kept.model, kept.prompt_hash, kept.replaces_seq) == (now.model, now.prompt_hash, now.replaces_seq)


def is_version(draft: SummaryDraft, base: Base, wanted: Wanted) -> bool:
    """Tell whether the draft is the next version; a rebuild's, once it covers what is wanted and what was covered."""
    return not wanted.rebuild or draft.covers_seq >= max(wanted.through_seq, base.covers_seq)
