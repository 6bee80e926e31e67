"""What an error repeats of a server's words, and what of a request a server is asked again without."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.chat_server import HEAD, HELLO, KEY, WAIT_S, Server, chunk, serving, sse
from worker.domain import Reply, Stop
from worker.errors import ModelAnswerInvalid, ModelError, ModelRefused, ModelUnavailable
from worker.models.event_loop import EventLoop
from worker.models.failures import LONGEST
from worker.models.openai_chat import OpenAIChat

SECRET, QUERY = "gold-0123456789", "silver-0123456789"


@pytest.fixture
def ask(event_loop: EventLoop) -> Callable[[Server], Reply]:
    """Ask a server once, with a secret header, and return its reply."""
    options = {"extra_headers": {"x-tier": SECRET}, "extra_query": {"code": QUERY}}
    return lambda server: event_loop.ask(OpenAIChat("m", KEY, server.base_url, options), HELLO, id, stop=Stop())


def response(status: int, body: Any) -> bytes:
    """A response with a body that is bytes, or JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d No\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (status, len(content), content)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no such model", "type": "invalid_request_error"}},
        {"error": "no such model"},
        {"message": "no such model"},
        {"detail": "no such model"},
        {"detail": [{"loc": ["body"], "msg": "no such model"}]},
        {"message": {"detail": [{"msg": "no such model"}]}},
        {"errors": [{"message": "no such model"}]},
        {"error": {"errors": [{"reason": "no such model"}]}},
        {"error": {"code": "no such model"}},
        {"error": {"message": "Provider error", "metadata": {"raw": '{"error": {"message": "no such model"}}'}}},
        {"title": "no such model", "status": 400},
        {"error": {"message": '{"error": {"message": "no such model"}}'}},
        [{"error": {"code": 400, "message": "no such model"}}],
        ["no such model"],
        {"Message": "no such model"},
        {"Error": {"Code": "X", "Message": "no such model"}},
        {"fault": {"faultstring": "no such model", "detail": {"errorcode": "x"}}},
        {"error_code": 1, "error_msg": "no such model"},
        {"outcome": {"why": "no such model"}},
        "no such model",
        b"no such model",
        b"<html><script>x()</script><h1>no&#32;such\n <b>model</b></h1></html>",
        b'{"error": {"message": "no such model"',
        b"\xff no such model",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 429, 500, 503])
def test_an_error_has_the_words_of_the_server(ask, body, status):
    """Whatever the shape of the body, on one line, with the status."""
    with serving(response(status, body)) as server, pytest.raises(ModelError) as raised:
        ask(server)

    assert "no such model" in str(raised.value)
    assert str(status) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("body", [b"", b"null", {}, [], {"error": None}, {"error": {}}, {"ok": False}, b"[" * 100_000])
def test_a_body_without_words_leaves_the_status(ask, body):
    """The error is made all the same."""
    with serving(response(500, body)) as server, pytest.raises(ModelUnavailable, match="500"):
        ask(server)


@pytest.mark.parametrize(
    "words",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Header 'Authorization: Bearer {KEY}' is wrong",
        "Header 'authorization: bearer abcdef0123' is wrong",
        f"Header x-tier: {SECRET} is wrong",
        f"POST /v1/chat/completions?code={QUERY} is wrong",
        "Incorrect API key provided: sk-test-****6789.",
        "Incorrect API key provided: ****6789.",
        "Incorrect API key provided: gsk_0123456789.",
        "POST https://host/v1?key=AIzaSyD-0123456789 failed",
    ],
)
@pytest.mark.parametrize("form", ["400", "401", "stream"])
def test_an_error_repeats_no_secret(ask, words, form):
    """Providers quote a wrong key, whole or in part."""
    error = {"error": {"message": words}}
    script = (HEAD, sse(error)) if form == "stream" else (response(int(form), error),)
    with serving(*script) as server, pytest.raises(ModelError) as raised:
        ask(server)

    assert not any(secret in str(raised.value) for secret in (KEY, SECRET, QUERY, "abcdef0123", "6789"))
    assert raised.value.__cause__ is None


def test_the_words_are_bounded(ask):
    """Some servers repeat the whole request."""
    with serving(response(400, {"error": "x" * 100_000})) as server, pytest.raises(ModelRefused) as raised:
        ask(server)

    assert len(str(raised.value)) < LONGEST + 100


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"error": {"message": "stream_options: Extra inputs are not permitted"}}),
        (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs"}]}),
        (400, {"message": {"detail": [{"loc": ["body", "stream_options", "include_usage"], "msg": "Extra inputs"}]}}),
    ],
)
def test_refused_stream_options_are_left_out_from_then_on(ask, event_loop, status, error):
    """The server is asked once more without them, and never with them again."""
    answer = (HEAD, chunk("stop", content="hi"))
    with serving(*answer, turns=[(response(status, error),)]) as server:
        replies = [ask(server).content, ask(server).content]
        sent = ["stream_options" in server.asked.get(timeout=WAIT_S) for _ in range(3)]

    assert replies == ["hi", "hi"]
    assert sent == [True, False, False]


@pytest.mark.parametrize("options", [{"stream_options": None}, {"extra_body": {"stream_options": None}}])
def test_stream_options_can_be_left_out(event_loop, options):
    """By the definition of the model."""
    with serving(HEAD, chunk("stop", content="hi")) as server:
        event_loop.ask(OpenAIChat("m", KEY, server.base_url, options), HELLO, id, stop=Stop())

        assert "stream_options" not in server.asked.get(timeout=WAIT_S)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}},
        {"error": {"message": "Your account x is suspended", "type": "exceeded_current_quota_error"}},
        {"code": "exhausted", "error": "Your team has used all available credits"},
        {"error": {"message": "Billing hard limit has been reached", "code": "billing_hard_limit_reached"}},
    ],
)
def test_an_account_without_money_is_not_asked_again(ask, body):
    """Some servers answer 429, as for too many requests."""
    with serving(response(429, body)) as server, pytest.raises(ModelRefused, match="429"):
        ask(server)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "Failed to call a function.", "code": "tool_use_failed", "failed_generation": "<function"}),
        (400, {"message": "Failed to generate JSON.", "code": "json_validate_failed"}),
        (500, {"message": "Failed to parse tool call arguments as JSON: parse_error.101"}),
        (500, "error parsing tool call: raw='{', err=unexpected end"),
    ],
)
def test_what_the_model_wrote_wrongly_is_asked_again_at_once(ask, status, error):
    """Its server could not read it. The model may write something else."""
    with serving(response(status, {"error": error})) as server, pytest.raises(ModelAnswerInvalid):
        ask(server)
