"""Clients of model servers, made from our settings alone.

Left to themselves, the `openai` package and httpx2 read variables that are meant for other programs: proxies,
certificates, an organisation, headers. They would change what is sent to a model, and to whom.
"""

import ssl
from typing import Any

import openai

from worker import settings as configuration
from worker.models import compressed
from worker.settings import Settings

OPENAI = "https://api.openai.com/v1"
LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")  # never reached through the proxy


def make_async_client(api_key: str | None, base_url: str | None) -> openai.AsyncOpenAI:
    """Return a client for one event loop. None: the key, or the address, of the settings.

    Raises:
        openai.OpenAIError: there is no key.
    """
    settings = _settings()
    http = openai.DefaultAioHttpClient(**_connection(settings), event_hooks={"response": [compressed.bound]})
    client = openai.AsyncOpenAI(**_server(settings, api_key, base_url), http_client=http)
    _drop_environment(client)
    return client


def make_client(api_key: str | None, base_url: str | None, *, timeout_s: float) -> openai.OpenAI:
    """Return a client without an event loop, otherwise as `make_async_client`."""
    settings = _settings()
    http = openai.DefaultHttpxClient(**_connection(settings))
    client = openai.OpenAI(**_server(settings, api_key, base_url), http_client=http, timeout=timeout_s)
    _drop_environment(client)
    return client


def _settings() -> Settings:
    # A mistake in another setting ended this process at its start; `doctor` names it and goes on.
    return configuration.load_readable()[0]


def _server(settings: Settings, api_key: str | None, base_url: str | None) -> dict[str, Any]:
    """Return the server and the key. The package reads the environment only for what is None here."""
    if api_key is None and settings.openai_api_key is not None:
        api_key = settings.openai_api_key.get_secret_value()
    if not api_key:
        raise openai.OpenAIError("there is no key")  # otherwise it takes OPENAI_ADMIN_KEY
    return {"api_key": api_key, "base_url": base_url or settings.openai_base_url or OPENAI, "max_retries": 0}


def _connection(settings: Settings) -> dict[str, Any]:
    """Return the options of the HTTP client: with `trust_env` it reads proxies, certificates and .netrc files."""
    options: dict[str, Any] = {"trust_env": False}
    if settings.ca_file is not None:
        options["verify"] = context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(settings.ca_file)
    if settings.model_proxy is not None:
        options |= {"proxy": settings.model_proxy.get_secret_value(), "mounts": dict.fromkeys(LOOPBACK)}
    return options


def _drop_environment(client: openai.OpenAI | openai.AsyncOpenAI) -> None:
    """Undo what the package took from OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_CUSTOM_HEADERS and the like.

    Arguments cannot: an empty organisation is sent as an empty header, and there is no argument against the headers.
    """
    client.organization = client.project = client.webhook_secret = client.admin_api_key = None
    client._custom_headers = {}
