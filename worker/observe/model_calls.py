"""Observe one call of a model: how long it took, what it used, or how it failed."""

from collections.abc import Callable
from types import TracebackType

from worker import clock
from worker.domain import Reply
from worker.errors import ModelError
from worker.observe import metrics


class ModelCall:
    """One call, from waiting for a slot to its reply. A call that ended because its run must stop is no failure."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._started_at: float | None = None
        self._has_text = False

    def __enter__(self) -> "ModelCall":
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        if self._started_at is not None:
            metrics.MODEL_CALLS.labels(self._model).dec()
        if isinstance(error, ModelError):
            metrics.MODEL_ERRORS.labels(self._model, error.code).inc()

    def start(self, on_delta: Callable[[str], None]) -> Callable[[str], None]:
        """Note that the call starts now; return *on_delta* wrapped, so that it notes the first piece of text."""
        started_at = self._started_at = clock.monotonic()
        metrics.MODEL_CALLS.labels(self._model).inc()

        def observed(delta: str) -> None:
            if not self._has_text:
                self._has_text = True
                metrics.MODEL_FIRST_TEXT.labels(self._model).observe(clock.monotonic() - started_at)
            on_delta(delta)

        return observed

    def finish(self, reply: Reply) -> None:
        """Note the reply."""
        assert self._started_at is not None
        metrics.MODEL_CALL.labels(self._model).observe(clock.monotonic() - self._started_at)
        tokens = metrics.TOKENS.labels
        tokens(self._model, "input").inc(reply.usage.input_tokens)
        tokens(self._model, "cached_input").inc(reply.usage.cached_input_tokens)
        tokens(self._model, "output").inc(reply.usage.output_tokens)
