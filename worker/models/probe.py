"""Whether a model's server answers and takes our key, by calls that cost nothing.

`GET /models` is asked first. A server that has no such list is sent an order without model and messages, which none
carries out: how it refuses tells a wrong key from a wrong address.
"""

from dataclasses import dataclass
from enum import StrEnum

import openai

from worker.models.openai_chat import OpenAIChat

WAIT_S = 5.0
MOST = 10_000  # names of a list that are looked through


class ProbeOutcome(StrEnum):
    """How a model's server answered."""

    LISTED = "listed"  # it takes the key, and has the model
    NOT_LISTED = "not_listed"  # it takes the key, and its list lacks the model
    NO_LIST = "no_list"  # it answers, and has no list of models
    NO_KEY = "no_key"  # there is no key to ask it with
    KEY_REFUSED = "key_refused"
    WRONG_ADDRESS = "wrong_address"  # something answers there that is no model's server
    NO_CREDIT = "no_credit"  # 429, and asking later does not help
    FAILING = "failing"  # it answers with errors of its own
    SILENT = "silent"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How a server answered, with its HTTP status where there was one."""

    outcome: ProbeOutcome
    status: int | None = None


def probe(model: OpenAIChat) -> ProbeResult:
    """Ask the server of *model*, and say how it answered."""
    try:
        client = openai.OpenAI(api_key=model.api_key, base_url=model.base_url, max_retries=0, timeout=WAIT_S)
    except openai.OpenAIError:
        return ProbeResult(ProbeOutcome.NO_KEY)
    with client:
        try:
            page = client.models.list()
            if not isinstance(getattr(page, "data", None), list):
                return ProbeResult(ProbeOutcome.WRONG_ADDRESS, 200)
            listed = [found.id for found, _ in zip(page, range(MOST), strict=False)]
            return ProbeResult(ProbeOutcome.LISTED if model.id in listed else ProbeOutcome.NOT_LISTED, 200)
        except openai.APIStatusError as error:
            return _without_list(client) if error.status_code in (404, 405, 501) else _explained(error)
        except (openai.APIError, AttributeError, TypeError, ValueError) as error:
            return _explained(error)


def _without_list(client: openai.OpenAI) -> ProbeResult:
    try:
        client.post("/chat/completions", body={}, cast_to=object)
    except openai.APIStatusError as error:
        # That the order itself is refused, or trips the server up, is what was expected.
        told = error.status_code in (401, 403, 404, 405, 429)
        return _explained(error) if told else ProbeResult(ProbeOutcome.NO_LIST, error.status_code)
    except (openai.APIError, ValueError) as error:
        return _explained(error)
    return ProbeResult(ProbeOutcome.WRONG_ADDRESS, 200)


def _explained(error: Exception) -> ProbeResult:
    match error:
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return ProbeResult(ProbeOutcome.KEY_REFUSED, error.status_code)
        case UnicodeEncodeError():
            return ProbeResult(ProbeOutcome.KEY_REFUSED)
        case openai.RateLimitError() if error.code == "insufficient_quota":
            return ProbeResult(ProbeOutcome.NO_CREDIT, 429)
        case openai.APIStatusError() if error.status_code == 429 or error.status_code >= 500:
            return ProbeResult(ProbeOutcome.FAILING, error.status_code)
        case openai.APIStatusError():
            return ProbeResult(ProbeOutcome.WRONG_ADDRESS, error.status_code)
        case openai.APITimeoutError():
            return ProbeResult(ProbeOutcome.SILENT)
        case openai.APIConnectionError():
            return ProbeResult(ProbeOutcome.AWAY)
    return ProbeResult(ProbeOutcome.WRONG_ADDRESS)
