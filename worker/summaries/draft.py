"""The draft of a refresh: where it begins, and when it becomes a version. Pure.

A refresh begins with the current summary, and each piece that it adds makes the next version. A rebuild begins before
the first message, without a summary, and becomes a version once it covers at least as much as the current one: no
reader ever sees a part of it. It does not continue a draft of another prompt or model. If retention removed the first
messages, it begins with the current summary's text, which is all that is left of them.
"""

from worker.domain import SummaryDraft
from worker.store import RefreshRequest
from worker.store.summaries import Base


def begin(base: Base, request: RefreshRequest, *, model: str, prompt_hash: str) -> SummaryDraft:
    """Return the draft that the next piece extends."""
    if not request.rebuild:
        return SummaryDraft(
            model, prompt_hash, base.covers_through_seq, text=base.text, covers_through_seq=base.covers_through_seq
        )
    empty = SummaryDraft(
        model, prompt_hash, replaces_seq=base.covers_through_seq, text="" if base.begins else base.text
    )
    saved = request.draft
    same = saved and (saved.model, saved.prompt_hash, saved.replaces_seq) == (model, prompt_hash, empty.replaces_seq)
    return saved if saved and same else empty


def is_version(draft: SummaryDraft, base: Base, request: RefreshRequest) -> bool:
    """Return whether the draft is the next version. A rebuild must cover the request and the current summary."""
    return not request.rebuild or draft.covers_through_seq >= max(request.through_seq, base.covers_through_seq)
