"""Whether the server of a model answers and accepts the key, by requests that cost nothing. For `team-sessions doctor`.

`GET /models` comes first. A server without that list gets a completion request without model and messages, which every
server rejects: how it rejects it tells a wrong key from a wrong address.
"""

from dataclasses import dataclass

import openai

from worker.domain import Problem
from worker.domain.problem import recognise
from worker.models.connection import make_client
from worker.models.openai_chat import OpenAIChat

TIMEOUT_S = 5.0
MAX_LISTED = 10_000  # names of a list that are searched
NO_LIST = (404, 405, 501)
TELLING = (401, 403, 404, 405, 429)  # of a rejected completion request; any other status is the expected rejection

NO_KEY = Problem(
    "model_no_key",
    "there is no key for its server",
    "Set OPENAI_API_KEY. For a server that needs none, set it to any word.",
)
NOT_LISTED = Problem(
    "model_not_listed",
    "its server accepts the key, but does not list this model",
    "Correct TEAM_SESSIONS_MODEL or the id of the team's model, unless the server accepts this name.",
)
WRONG_ADDRESS = Problem(
    "model_wrong_address",
    "its address does not answer like a model server ({status})",
    "Correct OPENAI_BASE_URL: it usually ends with /v1, as in https://api.openai.com/v1.",
)
PROBLEMS = (
    Problem(
        "model_key_refused",
        "its server refuses the key ({status})",
        "Correct OPENAI_API_KEY, or api_key of the team's model.",
        errors=(openai.AuthenticationError, openai.PermissionDeniedError, UnicodeEncodeError),
    ),
    Problem(
        "model_no_credit",
        "its server says that the credit is used up (429)",
        "Buy more credit, or use another key.",
        errors=(openai.RateLimitError,),
        signs=("insufficient_quota",),
    ),
    Problem(
        "model_failing",
        "its server fails ({status})",
        "Look at the provider's status page. Runs wait, and are retried.",
        errors=(openai.RateLimitError, openai.InternalServerError),
    ),
    Problem(
        "model_silent",
        "its server does not answer",
        "Check whether the server at OPENAI_BASE_URL is frozen or overloaded.",
        errors=(openai.APITimeoutError,),
    ),
    Problem(
        "model_away",
        "its server cannot be reached",
        "Start the server, correct OPENAI_BASE_URL, or give this machine access to it.",
        errors=(openai.APIConnectionError,),
    ),
)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a server answered: its problem, or None, and its HTTP status if there was one.

    `listed`: whether the server has a list of models with this one in it.
    """

    problem: Problem | None
    status: int | None = None
    listed: bool = False


def probe(model: OpenAIChat) -> ProbeResult:
    """Ask the server of *model*."""
    try:
        client = make_client(model.api_key, model.base_url, timeout_s=TIMEOUT_S)
    except openai.OpenAIError:
        return ProbeResult(NO_KEY)
    with client:
        try:
            page = client.models.list()
            if not isinstance(getattr(page, "data", None), list):
                return ProbeResult(WRONG_ADDRESS, 200)
            listed = model.id in [entry.id for entry, _ in zip(page, range(MAX_LISTED), strict=False)]
            return ProbeResult(None if listed else NOT_LISTED, 200, listed)
        except openai.APIStatusError as error:
            return _probe_completions(client) if error.status_code in NO_LIST else _result(error)
        except (openai.APIError, AttributeError, TypeError, ValueError) as error:
            return _result(error)


def _probe_completions(client: openai.OpenAI) -> ProbeResult:
    try:
        client.post("/chat/completions", body={}, cast_to=object)
    except openai.APIStatusError as error:
        return _result(error) if error.status_code in TELLING else ProbeResult(None, error.status_code)
    except (openai.APIError, ValueError) as error:
        return _result(error)
    return ProbeResult(WRONG_ADDRESS, 200)


def _result(error: Exception) -> ProbeResult:
    problem = recognise(PROBLEMS, error, str(getattr(error, "code", ""))) or WRONG_ADDRESS
    return ProbeResult(problem, getattr(error, "status_code", None))
