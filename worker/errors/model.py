"""How a call of a model can fail."""

from typing import ClassVar

from worker.errors.base import TeamSessionsError


class ModelError(TeamSessionsError):
    """Model {model!r} failed: {reason}."""

    code = "model_error"
    counted: ClassVar[bool] = True  # whether it counts towards TEAM_SESSIONS_MODEL_RETRIES

    def __init__(self, *, retry_after_s: float | None = None, http_status: int | None = None, **facts: object) -> None:
        super().__init__(**facts)
        self.retry_after_s = retry_after_s
        self.http_status = http_status  # of an HTTP response that is an error


class ModelRateLimited(ModelError):
    """Model {model!r} answered 429, too many requests: {reason}."""

    code = "model_rate_limited"
    retry = True


class ModelUnavailable(ModelError):
    """Model {model!r} could not be reached, or its server failed: {reason}."""

    code = "model_unavailable"
    retry = True


class ModelSilent(ModelError):
    """Model {model!r} sent nothing for {silence_s:g} s."""

    code = "model_silent"
    retry = True


class ModelStreamBroken(ModelError):
    """The answer of model {model!r} broke off: {reason}."""

    code = "model_stream_broken"
    retry = True


class ModelBusy(ModelRateLimited):
    """Model {model!r} has {limit} calls in flight, as many as TEAM_SESSIONS_MODEL_CALLS_IN_FLIGHT allows."""

    code = "model_busy"
    counted = False


class ModelRefused(ModelError):
    """Model {model!r} refused the request: {reason}. Sending it again will not help."""

    code = "model_refused"


class ModelContextExceeded(ModelRefused):
    """The context is longer than model {model!r} accepts, also after it was shortened: {reason}. Send a shorter
    input, or set a smaller Limits(context_tokens=…).
    """

    code = "model_context_exceeded"

    def __init__(self, *, limit: int | None = None, size: int | None = None, model: str, reason: str) -> None:
        super().__init__(model=model, reason=reason)
        self.limit, self.size = limit, size  # as the server counts them; None: it does not say


class ModelAnswerInvalid(ModelError):
    """The answer of model {model!r} cannot be read: {reason}."""

    code = "model_answer_invalid"

    def __init__(self, *, model: str, reason: str, fingerprint: str = "") -> None:
        super().__init__(model=model, reason=reason)
        self.fingerprint = fingerprint  # equal for equal answers


class ModelNoAnswer(ModelAnswerInvalid):
    """In place of an answer of model {model!r}, something else came: {reason}."""

    code = "model_no_answer"
    retry = True


class ModelAnswerTooLarge(ModelError):
    """The answer of model {model!r} was not read to its end: {part} is larger than {limit}. Asking again does not help.
    Limit the model's output, for example with max_tokens in OpenAIChat(request_params=…).
    """

    code = "model_answer_too_large"


class ModelEmptyReply(ModelError):
    """Model {model!r} answered with neither text nor a tool call."""

    code = "model_empty_reply"


class SummaryUnusable(ModelError):
    """Model {model!r} answered the request for a summary with {problem}. The version before stays."""

    code = "summary_unusable"
    retry = True
