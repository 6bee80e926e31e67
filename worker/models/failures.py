"""Which of our errors a server's failure becomes, by whether asking again can help, and what it repeats of its words.

A failure is an HTTP status with a body, or an error object in an answer with status 200. The object is treated as its
status would be, if it names one. Bodies have any shape. A provider may quote the key: no error of ours does.
"""

import email.utils
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import openai

from worker import clock, errors
from worker.domain import mend
from worker.models import context_limit
from worker.models.documents import NotJson, TooLarge

LONGEST = 300  # characters of a server's words that an error repeats
# Names in lower case of what has a sentence for people; the last ones hold an object with it.
WORDS = (
    *(
        "faultstring",
        "message",
        "msg",
        "detail",
        "details",
        "error",
        "errors",
        "error_description",
        "error_msg",
        "error_message",
    ),
    *("errmsg", "errormessage", "status_msg", "reason", "title", "fault", "base_resp", "header"),
)
OF_ERROR = ("message", "msg", "detail", "errors", "error_msg", "error_message", "errmsg", "errormessage", "fault")
RESULTS = ("base_resp", "header")  # objects that tell in each answer whether it succeeded
SUCCESS = (None, "", 0, "0", 200, "200", "success", "ok")
CODES = ("code", "status", "status_code", "http_status", "error_code", "type", "error")
# What servers say instead of a status, in codes, types and sentences; the first that matches counts.
SIGNS = tuple(
    (re.compile(pattern), status)
    for pattern, status in (
        (r"insufficient.{0,3}(quota|balance|credit|funds)|billing|余额|欠费", 402),
        (r"rate.?limit|too.?many.?requests|resource.?exhausted|throttl|速率|频率|限流|并发", 429),
        (r"overload|unavailable|internal|server.?error|time.?out|timed out|capacity|繁忙|超时", 503),
        (r"unauthori[sz]ed|authentication|permission|forbidden|api.?key|login fail|no_?auth|令牌|密钥|鉴权", 401),
        (r"invalid|bad.?request|not.?found|unsupported|not supported|too long|context.?length|not permitted", 400),
        (
            r"unexpected endpoint|inappropriate|inspection|sensitive|content.?(filter|policy)|敏感|不安全|无效|不存在",
            400,
        ),
    )
)
# These come with 429 too, and asking again helps only after a payment.
_UNPAID = re.compile(
    r"insufficient.{0,3}(quota|balance|credit|funds)|exceeded_current_quota|billing.hard.limit|arrear|余额|欠费"
    r"|account\b.{0,60}\b(suspended|deactivated)|available credits|spending limit|credit balance",
    re.IGNORECASE,
)
# What the model wrote could not be read by its server: it may write something else.
_MISWRITTEN = re.compile(
    r"tool_use_failed|json_validate_failed|output_parse_failed|(failed to pars|error parsing).{0,9}tool.?call",
    re.IGNORECASE,
)
_TAGS = re.compile(r"(?is)<(script|style)\b.*?</\1\s*>|<[^>]*>")
_KEYS = re.compile(
    r"(?i)\bbearer\s+[^\s\"',;]+|[\w-]*\*{3,}[\w*-]*|\b(sk|gsk|xai|csk|fw|nvapi|hf|r8|pplx|tgp)[-_][\w-]{6,}|\baiza[\w-]{9,}"
)


class ServerFailed(Exception):
    """An error object in an answer with status 200."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body


def error_in(document: Mapping[str, Any]) -> Any:
    """Return the error object in a document of an answer; None: it is no error."""
    if error := document.get("error", document.get("Error")):
        return document if isinstance(error, str) else error
    if document.get("object") == "error":
        return document
    for name in RESULTS:
        if isinstance(result := document.get(name), dict) and not _is_success(result):
            return result
    is_other = not document.get("choices") and any(
        value and name.lower() in OF_ERROR and (isinstance(value, (dict, list)) or not _is_success(document))
        for name, value in document.items()
    )
    return document if is_other else None


def _is_success(result: Mapping[str, Any]) -> bool:
    """Return whether an object with codes says that there was no error."""
    codes = [result[name] for name in CODES if name in result and not isinstance(result[name], (dict, list))]
    return bool(codes) and all((code.lower() if isinstance(code, str) else code) in SUCCESS for code in codes)


def to_model_error(
    error: Exception, *, model: str, silence_s: float, secrets: Iterable[str], has_begun: bool
) -> errors.ModelError:
    """Return the error of one call as a ModelError. An error that is none of the server or the package is raised.

    *has_begun*: a part of an answer had come before.
    """
    match error:
        case openai.APITimeoutError():
            return errors.ModelSilent(model=model, silence_s=silence_s)
        case openai.APIConnectionError():
            url = error.request.url  # its netloc has no login
            server = f"{url.scheme}://{url.netloc.decode()}"
            return errors.ModelUnavailable(model=model, reason=f"the connection to {server} failed or was cut")
        case openai.APIStatusError():
            headers, body = error.response.headers, body_of(error)
            failure = _by_status(error.status_code, body, model=model, secrets=secrets, wait_s=_retry_after(headers))
            failure.http_status = error.status_code
            return failure
        case ServerFailed(body=body):
            return _by_object(body, model=model, secrets=secrets)
        case TooLarge(part=part, limit=limit):
            return errors.ModelAnswerTooLarge(model=model, part=part, limit=limit)
        case NotJson(body=str() as body):
            reason = _line(f"it is no Chat Completions answer, check OPENAI_BASE_URL: {words(body)}", secrets)
            return errors.ModelNoAnswer(model=model, reason=reason)
        case NotJson() if not has_begun:
            return errors.ModelNoAnswer(model=model, reason="it is not JSON")
        case NotJson(text=text):
            fingerprint = hashlib.sha256(text.encode(errors="replace")).hexdigest()
            return errors.ModelAnswerInvalid(model=model, reason="a part of it is not JSON", fingerprint=fingerprint)
        case openai.OpenAIError():
            return errors.ModelRefused(model=model, reason="OPENAI_API_KEY is not set")
        case UnicodeEncodeError():
            return errors.ModelRefused(model=model, reason="OPENAI_API_KEY or a message cannot be encoded")
    raise error


def body_of(error: openai.APIStatusError) -> Any:
    """Return the body of a refused request: JSON, or its text."""
    text = error.response.text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def words(body: Any, depth: int = 6) -> str:
    """Return what a body of any shape says, on one line."""
    if depth == 0 or body is None or isinstance(body, bool):
        return ""
    if isinstance(body, str):
        return _words_in_text(body, depth)
    if isinstance(body, list):
        return "; ".join(filter(None, (words(entry, depth - 1) for entry in body[:5])))
    if not isinstance(body, dict):
        return str(body)
    lower = {str(name).lower(): value for name, value in body.items()}
    text = next(filter(None, (words(lower.get(name), depth - 1) for name in WORDS)), "")
    if isinstance(position := body.get("loc"), list):  # of an error of validation
        text = f"{'.'.join(map(str, position))}: {text}"
    text = text or words(lower.get("code"), 1) or words(lower.get("type"), 1)
    text = text or "; ".join(filter(None, (words(v, depth - 1) for v in body.values() if isinstance(v, (dict, str)))))
    metadata = body.get("metadata")
    raw = words(metadata.get("raw"), depth - 1) if isinstance(metadata, dict) else ""  # of the provider behind a router
    return text if raw in text else f"{text}: {raw}"


def _words_in_text(text: str, depth: int) -> str:
    if text.lstrip()[:1] in ("{", "["):
        try:
            return words(json.loads(text), depth - 1) or text.strip()
        except (ValueError, RecursionError):
            pass
    return " ".join(html.unescape(_TAGS.sub(" ", text[:20_000])).split())


def _by_object(body: Any, *, model: str, secrets: Iterable[str]) -> errors.ModelError:
    status = _status_in(body)
    if status is None and (error := _context_exceeded(None, body, model=model, secrets=secrets)):
        return error
    if status is None:
        reason = _line(f"it sent an error in its stream: {words(body)}", secrets)
        return errors.ModelStreamBroken(model=model, reason=reason)
    return _by_status(status, body, model=model, secrets=secrets, wait_s=None)


def _status_in(body: Any) -> int | None:
    """Return the HTTP status that an error object names or means."""
    if isinstance(body, list):
        return next((status for entry in body if (status := _status_in(entry)) is not None), None)
    codes = [body.get(name) for name in CODES] if isinstance(body, dict) else []
    for code in codes:
        if isinstance(code, dict):
            return _status_in(code)
        if re.fullmatch(r"[45]\d\d", text := str(code)):
            return int(text)
    texts = (" ".join(code for code in codes if isinstance(code, str)), words(body))
    return next((status for text in texts for sign, status in SIGNS if sign.search(text.lower())), None)


def _by_status(
    status: int, body: Any, *, model: str, secrets: Iterable[str], wait_s: float | None
) -> errors.ModelError:
    if error := _context_exceeded(status, body, model=model, secrets=secrets):
        return error
    reason, whole = _line(f"{status} {words(body)}", secrets), json.dumps(body, ensure_ascii=False, default=str)
    if status in (400, 422, 500) and _MISWRITTEN.search(whole):
        return errors.ModelAnswerInvalid(model=model, reason=reason)
    if status == 429 and not _UNPAID.search(whole):
        return errors.ModelRateLimited(model=model, reason=reason, retry_after_s=wait_s)
    if status in (401, 403):
        return errors.ModelRefused(model=model, reason=f"{reason} (check OPENAI_API_KEY)")
    if status >= 500 or status in (408, 409):
        return errors.ModelUnavailable(model=model, reason=reason, retry_after_s=wait_s)
    return errors.ModelRefused(model=model, reason=reason)


def _context_exceeded(
    status: int | None, body: Any, *, model: str, secrets: Iterable[str]
) -> errors.ModelContextExceeded | None:
    text = f"{words(body)} {json.dumps(body, ensure_ascii=False, default=str)}"
    overflow = context_limit.recognise(status, "", text)
    if overflow is None:
        return None
    reason = _line(f"{status or ''} {words(body)}", secrets)
    return errors.ModelContextExceeded(model=model, reason=reason, limit=overflow.limit, size=overflow.size)


def _line(text: str, secrets: Iterable[str]) -> str:
    text = text[: 5 * LONGEST]  # a secret at its end is cut off below
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "…")
    return mend(_KEYS.sub("…", text)).strip()[:LONGEST]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait: `retry-after-ms`, or Retry-After in seconds or as a date."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return _bounded(float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    try:
        return _bounded((email.utils.parsedate_to_datetime(headers["retry-after"]) - clock.now()).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None


def _bounded(wait_s: float) -> float:
    """Return *wait_s* within 0 and a day: a database cannot add 'inf' seconds to its time."""
    return min(max(0.0, wait_s), 86_400.0)
