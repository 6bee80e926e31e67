"""Observe one call of a model: how long it took, what it used, or how it failed."""

from collections.abc import Callable
from types import TracebackType

from worker import clock
from worker.domain.chat import Reply
from worker.errors import ModelError
from worker.observe import metrics


class ModelCall:
    """One call, from waiting for a place to its reply. One that was ended because its run shall stop is no failure."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._began: float | None = None
        self._spoken = False

    def __enter__(self) -> "ModelCall":
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        if self._began is not None:
            metrics.MODEL_CALLS.labels(self._model).dec()
        if isinstance(error, ModelError):
            metrics.MODEL_ERRORS.labels(self._model, error.code).inc()

    def begin(self, on_delta: Callable[[str], None]) -> Callable[[str], None]:
        """Note that the model is asked from now on; return *on_delta*, which notes the first piece of text."""
        began = self._began = clock.monotonic()
        metrics.MODEL_CALLS.labels(self._model).inc()

        def told(delta: str) -> None:
            if not self._spoken:
                self._spoken = True
                metrics.MODEL_FIRST_TEXT.labels(self._model).observe(clock.monotonic() - began)
            on_delta(delta)

        return told

    def answered(self, reply: Reply) -> None:
        """Note the reply."""
        assert self._began is not None
        metrics.MODEL_CALL.labels(self._model).observe(clock.monotonic() - self._began)
        used = reply.usage
        amounts = {"input": used.input_tokens, "cached_input": used.cached_input_tokens, "output": used.output_tokens}
        for kind, amount in amounts.items():
            metrics.TOKENS.labels(self._model, kind).inc(amount)
